// A map's browser: which gene, which cell types, which window, which links; and the address that keeps the gene.

const GENES_LISTED = 60;
const CELLS_TO_TELL = 5;

class MapBrowser {
  constructor(root) {
    this.root = root;
    const data = new MapData(JSON.parse(document.getElementById(root.dataset.source).textContent));
    this.data = data;
    this.chosen = new Set(data.types.name.map((_, i) => i));
    this.locus = new Locus(data, this.part("locus"), root.querySelector(".tip"));
    this.table = new LinkTable(root, data, { over: (peak) => this.locus.mark(peak), leave: () => this.locus.leave() });
    this.search = new GeneSearch(root, data, (gene) => this.show(gene));
    this.listed = GENES_LISTED;
    this.addTypes();
    this.addList();
    this.addToolbar();
    this.addLocus();
    this.listGenes();
    const first = this.ofAddress() ?? this.telling();
    if (first === undefined) this.part("title").textContent = "This map has no link";
    else this.show(first, { address: false });
    window.addEventListener("hashchange", () => { const gene = this.ofAddress(); if (gene !== null) this.show(gene); });
  }

  part(role) { return this.root.querySelector(`[data-role="${role}"]`); }

  ofAddress() {
    const name = new URLSearchParams(location.hash.slice(1)).get("gene");
    const gene = name === null ? -1 : this.data.find(name);
    if (name !== null && gene < 0) this.search.look(name);
    return gene < 0 || gene === this.gene ? null : gene;
  }

  // A gene to begin with: types differ most in it, and its strongest link spans some distance and was seen in some cells.
  telling() {
    const order = this.data.ordered(this.data.types.name.length > 1 ? "different" : "best");
    const strongest = order.slice(0, 100).map((gene) => this.data.linksOf(gene)[0]);
    const far = strongest.filter((row) => Math.abs(row.distance ?? 0) > 5000);
    return (far.find((row) => row.cells >= CELLS_TO_TELL) ?? far[0])?.gene ?? order[0];
  }

  addTypes() {
    const { name, cells, links } = this.data.types;
    this.boxes = name.map((type, i) => {
      const box = node("input", { type: "checkbox", value: i });
      box.checked = true;
      box.addEventListener("change", () => { box.checked ? this.chosen.add(i) : this.chosen.delete(i); this.draw(); });
      const label = node("label", { title: `${type}: ${whole(cells[i])} cells, ${whole(links[i])} links` }, box,
        node("i", { class: "chip", style: `--colour:var(--type-${i})` }), node("span", {}, type),
        node("small", {}, whole(cells[i])));
      this.part("types").append(label);
      return box;
    });
    const choose = (wanted) => {
      this.boxes.forEach((box, i) => { box.checked = wanted(i); });
      this.chosen = new Set(this.boxes.flatMap((box, i) => (box.checked ? [i] : [])));
      this.draw();
    };
    this.part("all").addEventListener("click", () => choose(() => true));
    this.part("none").addEventListener("click", () => choose(() => false));
    this.part("linked").addEventListener("click", () => choose((i) => this.rows.some((row) => row.type === i)));
  }

  addList() {
    const order = this.part("order");
    if (this.data.types.name.length < 2) order.querySelector('[value="different"]').remove();
    order.addEventListener("change", () => { this.listed = GENES_LISTED; this.listGenes(); });
    this.part("more").addEventListener("click", () => { this.listed += 200; this.listGenes(); });
  }

  listGenes() {
    const by = this.part("order").value, order = this.data.ordered(by);
    const values = this.data.genes[by];
    this.part("genes").replaceChildren(...order.slice(0, this.listed).map((gene) => {
      const told = by === "links" || by === "name" ? `${whole(this.data.genes.links[gene])} links` : shortly(values[gene]);
      const button = node("button", { type: "button", "data-gene": gene }, node("span", {}, this.data.geneLabel(gene)),
        node("small", {}, told));
      button.addEventListener("click", () => this.show(gene));
      return node("li", {}, button);
    }));
    this.part("more").hidden = this.listed >= order.length;
    this.markGene();
  }

  markGene() {
    for (const button of this.part("genes").querySelectorAll("button")) {
      if (Number(button.dataset.gene) === this.gene) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  addToolbar() {
    this.part("window").addEventListener("change", () => { this.centre(Number(this.part("window").value)); this.draw(); });
    for (const [role, work] of Object.entries({
      in: () => this.zoom(0.5), out: () => this.zoom(2), left: () => this.move(-0.25), right: () => this.move(0.25),
    })) this.part(role).addEventListener("click", work);
    for (const role of ["min-score", "max-q", "min-cells"]) this.part(role).addEventListener("input", () => this.draw());
    if (!this.data.has("qvalue")) this.part("q-label").hidden = true;
    this.part("reset").addEventListener("click", () => {
      for (const role of ["min-score", "max-q", "min-cells"]) this.part(role).value = "";
      this.startWindow();
      this.part("all").click();
    });
    this.part("save-shown").addEventListener("click", () => this.table.save(this.table.sorted(), this.fileName("shown")));
    this.part("save-gene").addEventListener("click", () => this.table.save(this.rows, this.fileName("links")));
  }

  fileName(what) { return `${this.data.genes.name[this.gene].replace(/[^\w.-]+/g, "_")}_${what}.csv`; }

  addLocus() {
    const place = this.part("locus");
    place.addEventListener("wheel", (event) => {
      if (!(event.ctrlKey || event.metaKey || event.shiftKey) || !this.view) return;
      event.preventDefault();
      const by = event.deltaY || event.deltaX;
      this.zoom(by > 0 ? 1.25 : 0.8, event.clientX - place.getBoundingClientRect().left);
    }, { passive: false });
    place.addEventListener("keydown", (event) => {
      const work = { "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2),
        ArrowLeft: () => this.move(-0.25), ArrowRight: () => this.move(0.25), 0: () => { this.startWindow(); this.draw(); } };
      if (!work[event.key] || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      work[event.key]();
    });
    place.addEventListener("pointerdown", (event) => this.drag(event, place));
    let width = 0;
    new ResizeObserver(() => { // the drawing fits its place; its own height shall not call this again
      if (place.clientWidth !== width) { width = place.clientWidth; this.draw(); }
    }).observe(place);
  }

  drag(event, place) {
    if (event.pointerType !== "mouse" || event.button || !this.view) return;
    const from = event.clientX, { start, end } = this.view;
    const scale = (end - start) / (this.locus.width - this.locus.left - this.locus.right);
    const onMove = (now) => this.setView(start - (now.clientX - from) * scale, end - (now.clientX - from) * scale);
    const onUp = () => { place.removeEventListener("pointermove", onMove); window.removeEventListener("pointerup", onUp); };
    place.addEventListener("pointermove", onMove);
    window.addEventListener("pointerup", onUp);
  }

  show(gene, { address = true } = {}) {
    this.gene = gene;
    this.rows = this.data.linksOf(gene);
    this.search.name(gene);
    this.startWindow();
    this.tellGene();
    this.markGene();
    this.draw();
    if (address) {
      this.wrote = `#gene=${encodeURIComponent(this.data.genes.name[gene])}`;
      history.replaceState(null, "", this.wrote);
    }
  }

  tellGene() {
    const { data, gene, rows } = this;
    const strand = { 1: ", + strand", 2: ", − strand" }[data.genes.strand[gene]] || "";
    const tss = data.genes.tss[gene];
    const place = tss < 0 ? "not placed on the genome" : `TSS ${data.chroms[data.genes.chrom[gene]]}:${whole(tss)}${strand}`;
    const types = new Set(rows.map((row) => row.type)).size, peaks = new Set(rows.map((row) => row.peak)).size;
    const seen = new Set(rows.filter((row) => row.cells > 0).map((row) => row.type)).size;
    const what = rows.length ? `${counted(rows.length, "link")} from ${counted(peaks, "peak")} in ${types} of`
      + ` ${counted(data.types.name.length, "cell type")}, strongest ${shortly(rows[0].score)}; seen in`
      + ` cells of ${seen}` : "no link in this map";
    this.part("title").textContent = data.geneLabel(gene);
    this.part("facts").textContent = `${place}. ${what[0].toUpperCase()}${what.slice(1)}.`;
  }

  // The narrowest of the offered windows that has all links, or one that does.
  startWindow() {
    const far = Math.max(0, ...this.rows.map((row) => Math.abs(row.distance ?? 0)));
    const offered = [...this.part("window").options].map((option) => Number(option.value)).filter((bp) => bp > 0);
    const fits = offered.find((bp) => bp >= far * 1.02);
    this.part("window").value = String(fits ?? 0);
    this.centre(fits ?? 0);
  }

  centre(half) {
    const tss = this.data.genes.tss[this.gene];
    if (tss < 0) { this.view = null; return; }
    const far = Math.max(2000, ...this.rows.map((row) => Math.abs(row.distance ?? 0)));
    const reach = half > 0 ? half : far * 1.06;
    this.view = { chrom: this.data.genes.chrom[this.gene], start: tss - reach, end: tss + reach };
  }

  zoom(factor, at) {
    if (!this.view) return;
    const { start, end } = this.view, { left, right, width } = this.locus;
    const share = at === undefined ? 0.5 : Math.min(Math.max((at - left) / (width - left - right), 0), 1);
    const length = Math.max((end - start) * factor, 200), middle = start + share * (end - start);
    this.setView(middle - share * length, middle + (1 - share) * length);
  }

  move(share) {
    if (this.view) this.setView(this.view.start + share * (this.view.end - this.view.start),
      this.view.end + share * (this.view.end - this.view.start));
  }

  setView(start, end) {
    this.view = { chrom: this.view.chrom, start, end };
    this.part("window").value = "-1";
    this.draw();
  }

  // Links of the chosen types that pass the filters, and which of them lie in the window.
  passing() {
    // in single precision, as the columns are: 0.1 there is no more than 0.1 here
    const [least, most] = ["min-score", "max-q"].map((role) => Math.fround(parseFloat(this.part(role).value)));
    const cells = parseFloat(this.part("min-cells").value);
    return this.rows.filter((row) => this.chosen.has(row.type) && !(row.score < least) && !((row.cells ?? 0) < cells)
      && (Number.isNaN(most) || row.qvalue <= most));
  }

  inside(row) {
    return this.view !== null && row.distance !== null
      && this.data.peaks.end[row.peak] > this.view.start && this.data.peaks.start[row.peak] < this.view.end;
  }

  draw() {
    if (this.gene === undefined) return;
    const passing = this.passing(), rows = this.view ? passing.filter((row) => this.inside(row)) : passing;
    const types = [...this.chosen].sort((a, b) => a - b);
    this.locus.leave();
    if (this.view) {
      const highest = this.rows.length ? this.rows[0].score : 0;
      this.locus.draw({ gene: this.gene, view: this.view, rows, types, highest });
    } else this.part("locus").replaceChildren(node("p", { class: "hint" },
      "The gene has no place on the genome; the table has its links."));
    this.table.show(rows);
    this.tellBeyond(passing, rows);
  }

  tellBeyond(passing, rows) {
    const other = passing.filter((row) => row.distance === null && this.view).length;
    const beyond = passing.length - rows.length - other, away = this.rows.length - passing.length;
    const told = [[beyond, "outside the window"], [other, "on other chromosomes"], [away, "of other types or filtered out"]]
      .filter(([n]) => n).map(([n, what]) => `${whole(n)} ${what}`);
    this.part("beyond").textContent = told.length ? `Links not drawn: ${told.join(", ")}.` : "";
  }
}

document.querySelectorAll("section.browser").forEach((root) => new MapBrowser(root));
