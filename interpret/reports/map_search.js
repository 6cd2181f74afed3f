// The search box: a combobox with arrow keys, Enter and Escape, that says so where a gene is not known.

class GeneSearch {
  constructor(root, data, choose) {
    this.data = data;
    this.choose = choose;
    const part = (role) => root.querySelector(`[data-role="${role}"]`);
    this.input = part("gene");
    this.list = part("options");
    this.message = part("message");
    this.options = [];
    this.at = -1;
    this.input.addEventListener("input", () => this.offer());
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.input.addEventListener("focus", () => this.input.select());
    this.input.addEventListener("blur", () => this.close());
  }

  offer() {
    this.message.textContent = "";
    this.options = this.data.matches(this.input.value, 12);
    this.at = -1;
    this.list.replaceChildren(...this.options.map((gene, i) => this.option(gene, i)));
    this.show(this.options.length > 0);
  }

  option(gene, i) {
    const links = this.data.genes.links[gene];
    const item = node("li", { role: "option", id: `${this.list.id}-${i}`, "aria-selected": "false" },
      node("span", {}, this.data.geneLabel(gene)), node("small", {}, links ? counted(links, "link") : "no link"));
    item.addEventListener("pointerdown", (event) => { event.preventDefault(); this.take(gene); });
    return item;
  }

  key(event) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (this.list.hidden) this.offer();
      else this.move(event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (this.at >= 0) this.take(this.options[this.at]);
      else this.look(this.input.value.trim());
    } else if (event.key === "Escape") {
      if (this.list.hidden) this.input.value = "";
      this.close();
    }
  }

  move(by) {
    if (!this.options.length) return;
    this.at = (this.at + by + this.options.length + (this.at < 0 && by < 0 ? 1 : 0)) % this.options.length;
    [...this.list.children].forEach((item, i) => item.setAttribute("aria-selected", String(i === this.at)));
    const chosen = this.list.children[this.at];
    this.input.setAttribute("aria-activedescendant", chosen.id);
    chosen.scrollIntoView({ block: "nearest" });
  }

  look(text) {
    if (!text) return;
    const gene = this.data.find(text);
    if (gene >= 0) { this.take(gene); return; }
    const near = this.data.near(text, 5);
    const starting = near.length ? near : this.data.matches(text, 5);
    this.close();
    this.message.textContent = `No gene “${text}” in this map.`;
    if (!starting.length) { this.message.append(" The names are those of the data set."); return; }
    this.message.append(" Did you mean ");
    starting.forEach((other, i) => {
      const button = node("button", { type: "button", class: "inline" }, this.data.genes.name[other]);
      button.addEventListener("click", () => this.take(other));
      this.message.append(i ? ", " : "", button);
    });
    this.message.append("?");
  }

  take(gene) {
    this.message.textContent = "";
    this.close();
    this.choose(gene);
  }

  name(gene) { this.input.value = this.data.genes.name[gene]; }

  show(open) {
    this.list.hidden = !open;
    this.input.setAttribute("aria-expanded", String(open));
    this.input.removeAttribute("aria-activedescendant");
  }

  close() { this.show(false); this.at = -1; }
}
