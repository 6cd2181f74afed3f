// The locus of a gene as SVG: coordinates, a lane of arcs and openness a cell type, peaks, and gene models.

const LANE = { few: 64, many: 44, bars: 11 };
const MOST_RECTANGLES = 900;

// Round positions between two ends, some 100 pixels apart.
function ruler(start, end, width) {
  const rough = ((end - start) / Math.max(width, 1)) * 110;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((factor) => unit * factor >= rough);
  const ticks = [];
  for (let at = Math.ceil(start / step) * step; at <= end; at += step) ticks.push(at);
  return { ticks, step };
}

function position(bp, step) {
  if (step >= 1e6) return `${(bp / 1e6).toFixed(0)} Mb`;
  const digits = Math.max(0, 6 - Math.floor(Math.log10(step)));
  return digits <= 3 ? `${(bp / 1e6).toFixed(digits)} Mb` : `${(bp / 1e3).toLocaleString("en-US")} kb`;
}

class Locus {
  constructor(data, place, tip) {
    this.data = data;
    this.place = place;
    this.tip = tip;
  }

  // view: {chrom, start, end}; rows: links to draw; types: chosen types in order; highest: score of the widest arc.
  draw({ gene, view, rows, types, highest, marked }) {
    const { data } = this;
    this.width = Math.max(this.place.clientWidth, 280);
    this.left = this.width < 620 ? 8 : 128;
    this.right = 12;
    this.view = view;
    this.peaks = data.peaksIn(view.chrom, view.start, view.end);
    this.drawing = svg("svg", { role: "img" });
    this.lane = types.length > 6 ? LANE.many : LANE.few;
    let y = 26;
    this.ruler();
    const byType = new Map(types.map((type) => [type, []]));
    for (const row of rows) if (byType.has(row.type)) byType.get(row.type).push(row);
    const openest = this.openest(types);
    for (const type of types) {
      this.drawLane(type, gene, byType.get(type), y, highest, openest);
      y += this.lane;
    }
    if (!types.length) {
      this.drawing.append(svg("text", { x: this.left + 8, y: y + 22, class: "hint" }, "no cell type is chosen"));
      y += 40;
    }
    y = this.drawPeaks(rows, y + 6, marked);
    y = this.drawGenes(gene, y + 6);
    this.drawTss(gene, y);
    this.drawing.setAttribute("viewBox", `0 0 ${this.width} ${y + 4}`);
    this.drawing.setAttribute("width", this.width);
    this.drawing.setAttribute("height", y + 4);
    this.drawing.setAttribute("aria-label", `${rows.length} links of ${data.geneLabel(gene)} in ${types.length} cell`
      + ` types; the table below lists them`);
    this.place.replaceChildren(this.drawing);
  }

  x(bp) {
    const { start, end } = this.view;
    return this.left + ((bp - start) / (end - start)) * (this.width - this.left - this.right);
  }

  ruler() {
    const { start, end } = this.view;
    const { ticks, step } = ruler(start, end, this.width - this.left - this.right);
    for (const at of ticks) {
      const x = this.x(at);
      this.drawing.append(svg("path", { d: `M${x} 18V24`, class: "rule" }));
      const text = position(at, step), half = text.length * 3.2;
      if (x - half < this.left - 4 || x + half > this.width) continue;
      this.drawing.append(svg("text", { x, y: 13, "text-anchor": "middle", class: "tick" }, text));
    }
    if (this.left > 100) {
      this.drawing.append(svg("text", { x: 2, y: 13, class: "tick" }, this.data.chroms[this.view.chrom]));
    }
    this.drawing.append(svg("path", { d: `M${this.left} 24H${this.width - this.right}`, class: "rule" }));
  }

  openest(types) {
    let highest = 0;
    for (const type of types) for (const peak of this.peaks) highest = Math.max(highest, this.data.open(type, peak) || 0);
    return highest;
  }

  drawLane(type, gene, rows, top, highest, openest) {
    const base = top + this.lane - LANE.bars - 4, wide = this.left > 100;
    const lane = svg("g", { class: "lane", "data-type": type, style: `--colour:var(--type-${type})` });
    this.drawing.append(lane);
    lane.append(svg("path", { d: `M${this.left} ${base}H${this.width - this.right}`, class: "base" }));
    const bars = this.bars(type, base, openest);
    if (bars) lane.append(svg("path", { d: bars, class: "open" }));
    for (const row of [...rows].reverse()) lane.append(this.arc(row, base, top, highest));
    const name = this.data.types.name[type], value = this.data.expressed(gene, type);
    const text = svg("text", { x: wide ? 2 : this.left + 2, y: wide ? base - 10 : top + 12, class: "lane-name" });
    text.append(this.clipped(name, wide ? 18 : 30));
    text.append(svg("title", {}, name));
    lane.append(text);
    if (known(value)) {
      if (wide) this.drawExpression(lane, gene, value, base);
      const told = wide ? { x: 2, y: base + 3 } : { x: this.width - this.right, y: top + 12, "text-anchor": "end" };
      lane.append(svg("text", { ...told, class: "lane-told" }, `expression ${value.toFixed(2)}`));
    }
  }

  // A bar of the expression beside the type where it is highest.
  drawExpression(lane, gene, value, base) {
    const values = this.data.types.name.map((_, type) => this.data.expressed(gene, type) || 0);
    const share = Math.max(...values) > 0 ? value / Math.max(...values) : 0;
    lane.append(svg("rect", { x: 2, y: base + 7, width: (share * (this.left - 30)).toFixed(1), height: 3, class: "expression" }));
  }

  clipped(name, most) {
    const letters = Array.from(name);
    return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : name;
  }

  bars(type, base, openest) {
    if (!openest) return "";
    let path = "";
    for (const peak of this.peaks) {
      const height = (this.data.open(type, peak) / openest) * LANE.bars;
      if (!(height > 0.05)) continue;
      const from = this.x(this.data.peaks.start[peak]), width = Math.max(this.x(this.data.peaks.end[peak]) - from, 2);
      path += `M${from.toFixed(1)} ${base}h${width.toFixed(1)}v${height.toFixed(1)}h${(-width).toFixed(1)}z`;
    }
    return path;
  }

  arc(row, base, top, highest) {
    let a = this.x(row.middle), b = this.x(this.data.genes.tss[row.gene]);
    if (Math.abs(a - b) < 7) { // a link of a promoter is a narrow loop rather than a line that the TSS hides
      const middle = (a + b) / 2, way = a < b ? -1 : 1;
      a = middle + 3.5 * way;
      b = middle - 3.5 * way;
    }
    const most = base - top - 6, reach = Math.min(Math.abs(a - b) / (0.5 * (this.width - this.left)), 1);
    const height = 2 * most * (0.3 + 0.7 * Math.sqrt(reach));
    const d = `M${a.toFixed(1)} ${base}Q${((a + b) / 2).toFixed(1)} ${(base - height).toFixed(1)} ${b.toFixed(1)} ${base}`;
    const share = highest > 0 ? Math.max(row.score, 0) / highest : 0;
    const arc = svg("g", { class: "arc", "data-peak": row.peak, "data-link": row.i });
    arc.append(svg("path", { d, class: "drawn", "stroke-width": (0.7 + 2.8 * share).toFixed(2),
      "stroke-opacity": (0.25 + 0.75 * share).toFixed(2) }));
    const reachable = svg("path", { d, class: "reach" });
    reachable.addEventListener("pointerenter", (event) => this.tellLink(event, row));
    reachable.addEventListener("pointerleave", () => this.leave());
    arc.append(reachable);
    return arc;
  }

  drawPeaks(rows, y, marked) {
    const sharing = new Map();
    for (const row of rows) sharing.set(row.peak, [...(sharing.get(row.peak) || []), row]);
    const group = svg("g", { class: "peaks" });
    this.drawing.append(group);
    if (this.left > 100) group.append(svg("text", { x: 2, y: y + 9, class: "lane-told" }, "peaks"));
    const { start, end } = this.data.peaks;
    const all = this.peaks.length <= MOST_RECTANGLES;
    let rest = "";
    for (const peak of this.peaks) {
      const x = this.x(start[peak]), width = Math.max(this.x(end[peak]) - x, 2), links = sharing.get(peak) || [];
      if (!links.length && !all) { rest += `M${x.toFixed(1)} ${y}h${width.toFixed(1)}v10h${(-width).toFixed(1)}z`; continue; }
      const box = svg("rect", { x: x.toFixed(1), y, width: width.toFixed(1), height: 10, "data-peak": peak,
        class: links.length ? "peak linked" : "peak", style: `--types:${links.length}` });
      if (peak === marked) box.classList.add("marked");
      box.addEventListener("pointerenter", (event) => this.tellPeak(event, peak, links));
      box.addEventListener("pointerleave", () => this.leave());
      group.append(box);
      if (links.length > 1 && width < 40) {
        group.append(svg("text", { x: x + width / 2, y: y + 20, "text-anchor": "middle", class: "shared" }, links.length));
      }
    }
    if (rest) group.prepend(svg("path", { d: rest, class: "peak" }));
    return y + 24;
  }

  drawGenes(gene, y) {
    const { start, end, chrom } = this.view, edges = [];
    const found = this.data.genesIn(chrom, start, end);
    found.sort((a, b) => (b.gene === gene) - (a.gene === gene) || a.low - b.low);
    let hidden = 0;
    for (const { gene: other, low, high } of found) {
      const label = this.data.genes.symbol ? this.data.genes.symbol[other] : this.data.genes.name[other];
      const from = Math.max(this.x(low), this.left), to = Math.min(Math.max(this.x(high), from + 2), this.width - this.right);
      const taken = [from - 6, Math.max(to, from + Math.min(label.length, 18) * 6.4) + 8];
      let lane = edges.findIndex((spans) => spans.every(([a, b]) => taken[1] < a || taken[0] > b));
      if (lane < 0) lane = edges.push([]) - 1;
      if (lane > 5) { hidden += 1; edges.pop(); continue; }
      edges[lane].push(taken);
      this.drawGene(other, label, from, to, y + lane * 26, other === gene);
    }
    const lanes = Math.max(edges.length, 1);
    if (hidden) {
      const text = `${hidden} more genes`;
      this.drawing.append(svg("text", { x: this.width - this.right, y: y + lanes * 26 + 10, "text-anchor": "end",
        class: "lane-told" }, text));
    }
    return y + lanes * 26 + (hidden ? 14 : 0);
  }

  drawGene(gene, label, from, to, y, own) {
    const model = svg("g", { class: own ? "gene own" : "gene", "data-gene": gene });
    this.drawing.append(model);
    model.append(svg("path", { d: `M${from} ${y + 6}H${to}`, class: "body" }));
    const strand = this.data.genes.strand[gene], way = strand === 2 ? -1 : 1;
    if (strand) {
      let arrows = "";
      for (let x = from + 8; x < to - 4; x += 14) arrows += `M${x - 3 * way} ${y + 3}L${x} ${y + 6}L${x - 3 * way} ${y + 9}`;
      model.append(svg("path", { d: arrows, class: "way" }));
    }
    for (const [low, high] of this.data.exonsOf(gene)) {
      if (high <= this.view.start || low >= this.view.end) continue;
      const a = Math.max(this.x(low), this.left), b = Math.min(this.x(high), this.width - this.right);
      model.append(svg("rect", { x: a.toFixed(1), y: y + 2, width: Math.max(b - a, 1.5).toFixed(1), height: 8, class: "exon" }));
    }
    const text = svg("text", { x: Math.min(from, this.width - this.right - Math.min(label.length, 18) * 6.2), y: y + 20,
      class: "gene-name" });
    text.append(this.clipped(label, 18));
    text.append(svg("title", {}, `${this.data.geneLabel(gene)}${strand ? ` (${way > 0 ? "+" : "−"})` : ""}`));
    model.append(text);
  }

  drawTss(gene, bottom) {
    const at = this.data.genes.tss[gene];
    if (at < this.view.start || at > this.view.end) return;
    const x = this.x(at);
    this.drawing.prepend(svg("path", { d: `M${x} 24V${bottom}`, class: "tss" }));
  }

  tellLink(event, row) {
    const { data } = this;
    const rows = [[data.types.name[row.type]], ["peak", data.peakName(row.peak)],
      ["distance", `${whole(row.distance)} bp`], ["score", shortly(row.score)], ["effect", shortly(row.effect)]];
    if (data.has("zscore")) rows.push(["z", shortly(row.zscore)]);
    if (data.has("qvalue")) rows.push(["q", shortly(row.qvalue)]);
    rows.push(["cells", `${whole(row.cells)} of ${whole(data.types.cells[row.type])}`]);
    const open = data.open(row.type, row.peak);
    if (known(open)) rows.push(["open in", `${(100 * open).toFixed(1)} % of the cells`]);
    const tfs = data.tfsOf(row.peak);
    if (tfs.length) rows.push(["motifs", tfs.join(", ")]);
    this.mark(row.peak);
    placeTip(this.tip, event, rows);
  }

  tellPeak(event, peak, links) {
    const { data } = this;
    const rows = [[data.peakName(peak)]];
    for (const row of links.slice(0, 12)) rows.push([data.types.name[row.type], `score ${shortly(row.score)}`]);
    if (links.length > 12) rows.push(["", `and ${links.length - 12} more types`]);
    if (!links.length) rows.push(["no link", "among those shown"]);
    if (data.peaks.open) rows.push(["open in", `${(100 * data.peaks.open[peak]).toFixed(1)} % of all cells`]);
    const tfs = data.tfsOf(peak);
    if (tfs.length) rows.push(["motifs", tfs.join(", ")]);
    this.mark(peak);
    placeTip(this.tip, event, rows);
  }

  // Make what belongs to a peak stand out in all lanes.
  mark(peak) {
    this.drawing.classList.add("marking");
    for (const element of this.drawing.querySelectorAll(`[data-peak="${peak}"]`)) element.classList.add("marked");
  }

  leave() {
    this.tip.hidden = true;
    if (!this.drawing) return;
    this.drawing.classList.remove("marking");
    for (const element of this.drawing.querySelectorAll(".marked")) element.classList.remove("marked");
  }
}
