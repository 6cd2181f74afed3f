// Small helpers of the whole page, the values under the pointer on curves and matrices, and sorting of static tables.

const NS = document.getElementById("svg-space").namespaceURI;

function svg(name, attributes, text) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function node(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);
const whole = (value) => (known(value) ? value.toLocaleString("en-US") : "–");

const counted = (n, what) => `${whole(n)} ${what}${n === 1 ? "" : "s"}`;

// Three or four telling digits, as people read them.
function shortly(value) {
  if (!known(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 0.001) return value.toExponential(1);
  return size < 100 ? value.toFixed(3) : value.toFixed(0);
}

// All digits that single precision has.
const exactly = (value) => (known(value) ? String(Number(value.toPrecision(7))) : "");

function placeTip(tip, event, rows) {
  tip.replaceChildren(...rows.map(([name, value]) =>
    value === undefined ? node("strong", {}, name) : node("div", {}, node("span", {}, name), node("span", {}, value))));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = Math.min(event.clientX + 14, window.innerWidth - box.width - 8);
  const below = event.clientY + 16 + box.height < window.innerHeight;
  tip.style.left = `${Math.max(left, 8)}px`;
  tip.style.top = `${below ? event.clientY + 16 : Math.max(event.clientY - box.height - 10, 8)}px`;
}

const pageTip = node("div", { class: "tip", role: "status" });
pageTip.hidden = true;
document.body.append(pageTip);

function followCurve(curve) {
  const told = JSON.parse(curve.dataset.curve);
  const rule = svg("path", { class: "pointer" });
  curve.append(rule);
  curve.addEventListener("pointermove", (event) => {
    const box = curve.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * curve.viewBox.baseVal.width;
    const distances = told.x.map((at) => Math.abs(at - x));
    const i = distances.indexOf(Math.min(...distances));
    rule.setAttribute("d", `M${told.x[i]} 26V156`);
    const rows = Object.entries(told.series).map(([name, values]) =>
      [name, values[i] === null ? "–" : String(values[i])]);
    placeTip(pageTip, event, [[`epoch ${told.epochs[i]}`], ...rows]);
  });
  curve.addEventListener("pointerleave", () => { rule.setAttribute("d", ""); pageTip.hidden = true; });
}

document.querySelectorAll("svg.curve").forEach(followCurve);

document.addEventListener("pointerover", (event) => {
  const told = event.target.closest ? event.target.closest("[data-tip]") : null;
  if (told) placeTip(pageTip, event, [[told.dataset.tip]]);
});
document.addEventListener("pointerout", (event) => {
  if (event.target.closest && event.target.closest("[data-tip]")) pageTip.hidden = true;
});
