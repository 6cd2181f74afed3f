// The table of the links that are drawn: sorted by any column, saved as CSV.

const FIRST_ROWS = 200;

class LinkTable {
  constructor(root, data, { over, leave }) {
    this.data = data;
    this.over = over;
    this.leave = leave;
    this.table = root.querySelector('[data-role="table"]');
    this.count = root.querySelector('[data-role="count"]');
    this.more = root.querySelector('[data-role="rows"]');
    this.by = "score";
    this.down = true;
    this.rows = [];
    this.all = false;
    for (const head of this.table.querySelectorAll("th")) {
      const key = head.dataset.key;
      if (["effect", "zscore", "qvalue"].includes(key) && !data.has(key)) { head.remove(); continue; }
      head.querySelector("button").addEventListener("click", () => this.sortBy(key));
    }
    this.keys = [...this.table.querySelectorAll("th")].map((head) => head.dataset.key);
    this.more.addEventListener("click", () => { this.all = true; this.draw(); });
  }

  show(rows) {
    this.rows = rows;
    this.all = false;
    this.draw();
  }

  sortBy(key) {
    this.down = this.by === key ? !this.down : !["peak", "type", "distance", "qvalue"].includes(key);
    this.by = key;
    this.draw();
  }

  sorted() {
    const { data, by } = this;
    const value = { peak: (row) => data.peaks.start[row.peak], type: (row) => data.types.name[row.type] }[by]
      || ((row) => row[by]);
    const sign = this.down ? -1 : 1;
    return [...this.rows].sort((a, b) => {
      const x = value(a), y = value(b);
      if (!known(x) || !known(y)) return known(y) - known(x); // what is unknown comes last
      return x < y ? -sign : x > y ? sign : a.i - b.i;
    });
  }

  draw() {
    const rows = this.sorted(), shown = this.all ? rows : rows.slice(0, FIRST_ROWS);
    for (const head of this.table.querySelectorAll("th")) {
      const own = head.dataset.key === this.by;
      head.setAttribute("aria-sort", own ? (this.down ? "descending" : "ascending") : "none");
    }
    this.table.tBodies[0].replaceChildren(...shown.map((row) => this.row(row)));
    this.count.textContent = `${counted(rows.length, "link")} shown`;
    this.count.dataset.count = rows.length;
    this.more.hidden = shown.length === rows.length;
    this.more.textContent = `list all ${whole(rows.length)}`;
  }

  row(row) {
    const { data } = this;
    const cells = {
      peak: () => this.peak(row),
      type: () => this.type(row),
      distance: () => (row.distance === null ? "other chromosome" : whole(row.distance)),
      cells: () => whole(row.cells),
      sharing: () => `${row.sharing} of ${data.types.name.length}`,
    };
    const told = this.keys.map((key) => node("td", {}, cells[key] ? cells[key]() : shortly(row[key])));
    const line = node("tr", { "data-link": row.i }, ...told);
    line.addEventListener("pointerenter", () => this.over(row.peak));
    line.addEventListener("pointerleave", () => this.leave());
    return line;
  }

  peak(row) {
    const tfs = this.data.tfsOf(row.peak);
    const name = node("span", { class: "peak-name" }, this.data.peakName(row.peak));
    if (tfs.length) name.title = `motifs: ${tfs.join(", ")}`;
    return name;
  }

  type(row) {
    return node("span", { class: "type" }, node("i", { class: "chip", style: `--colour:var(--type-${row.type})` }),
      this.data.types.name[row.type]);
  }

  save(rows, name) {
    const place = URL.createObjectURL(new Blob([this.data.csv(rows)], { type: "text/csv" }));
    node("a", { href: place, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(place), 10000);
  }
}
