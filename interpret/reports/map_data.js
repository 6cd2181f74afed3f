// A regulatory map: its columns decoded, and what is asked of them.

const ARRAYS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i4: Int32Array, f4: Float32Array };
const NO_DISTANCE = -2147483648;
const CSV = ["gene", "peak", "chrom", "start", "end", "tss", "distance", "score", "zscore", "pvalue", "qvalue",
  "cell_type", "n_cells", "effect"];

function decoded(column) {
  if (!column) return null;
  const text = atob(column.bytes);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new ARRAYS[column.type](bytes.buffer);
}

function decodedAll(columns) {
  const entries = Object.entries(columns).map(([name, column]) =>
    [name, column && column.bytes !== undefined ? decoded(column) : column]);
  return Object.fromEntries(entries);
}

// Letters to change from one word to the other, two neighbours swapped counting one; or more than `most`.
function steps(a, b, most) {
  if (Math.abs(a.length - b.length) > most) return most + 1;
  let before = [], last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      row[j] = Math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        row[j] = Math.min(row[j], before[j - 2] + 1);
      }
    }
    before = last;
    last = row;
  }
  return last[b.length];
}

class MapData {
  constructor(content) {
    this.chroms = content.chroms;
    this.types = content.types;
    this.genes = decodedAll(content.genes);
    this.peaks = decodedAll(content.peaks);
    this.links = decodedAll(content.links);
    this.openness = decoded(content.openness);
    this.expression = decoded(content.expression);
    this.exons = content.exons && decodedAll(content.exons);
    this.tfs = content.tfs && decodedAll(content.tfs);
    this.names = this.genes.name.map((name) => name.toLowerCase());
    this.symbols = this.genes.symbol && this.genes.symbol.map((name) => name.toLowerCase());
  }

  has(figure) { return this.links[figure] !== undefined; }

  peakName(peak) {
    const { name, chrom, start, end } = this.peaks;
    return name ? name[peak] : `${this.chroms[chrom[peak]]}:${start[peak]}-${end[peak]}`;
  }

  geneLabel(gene) {
    const { name, symbol } = this.genes;
    return symbol && symbol[gene] !== name[gene] ? `${symbol[gene]} (${name[gene]})` : name[gene];
  }

  // The gene of exactly that name or symbol; upper and lower case may differ where that is unambiguous.
  find(text) {
    const exact = this.genes.name.indexOf(text);
    if (exact >= 0) return exact;
    const symbol = this.genes.symbol ? this.genes.symbol.indexOf(text) : -1;
    if (symbol >= 0) return symbol;
    const small = text.toLowerCase();
    const name = this.names.indexOf(small);
    return name >= 0 ? name : this.symbols ? this.symbols.indexOf(small) : -1;
  }

  // Genes whose name begins with the text, then those that contain it; genes with links come first.
  matches(text, most) {
    const small = text.trim().toLowerCase();
    if (!small) return [];
    const starts = [], contains = [];
    for (let gene = 0; gene < this.names.length; gene++) {
      const places = [this.names[gene].indexOf(small), this.symbols ? this.symbols[gene].indexOf(small) : -1];
      if (places.includes(0)) starts.push(gene);
      else if (Math.max(...places) > 0) contains.push(gene);
    }
    const rank = (gene) => (this.genes.links[gene] ? 0 : 1);
    const order = (a, b) => rank(a) - rank(b) || this.names[a].length - this.names[b].length
      || (this.names[a] < this.names[b] ? -1 : 1);
    return [...starts.sort(order), ...contains.sort(order)].slice(0, most);
  }

  // Genes whose names are nearly the text.
  near(text, most) {
    const small = text.trim().toLowerCase();
    const limit = small.length < 4 ? 1 : 2;
    const found = [];
    for (let gene = 0; gene < this.names.length; gene++) {
      const words = this.symbols ? [this.names[gene], this.symbols[gene]] : [this.names[gene]];
      const distance = Math.min(...words.map((word) => steps(small, word, limit)));
      if (distance <= limit) found.push([distance, gene]);
    }
    return found.sort((a, b) => a[0] - b[0]).slice(0, most).map(([, gene]) => gene);
  }

  // Genes with links by a column of theirs, largest first; by name alphabetically.
  ordered(by) {
    const withLinks = [];
    for (let gene = 0; gene < this.names.length; gene++) if (this.genes.links[gene]) withLinks.push(gene);
    if (by === "name") return withLinks.sort((a, b) => (this.names[a] < this.names[b] ? -1 : 1));
    const values = this.genes[by];
    return withLinks.sort((a, b) => values[b] - values[a] || a - b);
  }

  // All links of a gene, strongest first, with in how many types each stands.
  linksOf(gene) {
    const { first, peak, type, distance, cells } = this.links;
    const rows = [];
    for (let i = first[gene]; i < first[gene + 1]; i++) {
      const figure = (name) => (this.links[name] ? this.links[name][i] : NaN);
      rows.push({
        i, gene, peak: peak[i], type: type[i], score: figure("score"), effect: figure("effect"),
        zscore: figure("zscore"), pvalue: figure("pvalue"), qvalue: figure("qvalue"),
        distance: distance[i] === NO_DISTANCE ? null : distance[i], cells: cells[i] ? cells[i] - 1 : null,
        middle: Math.floor((this.peaks.start[peak[i]] + this.peaks.end[peak[i]]) / 2),
      });
    }
    const types = new Map();
    for (const row of rows) types.set(row.peak, (types.get(row.peak) || 0) + 1);
    for (const row of rows) row.sharing = types.get(row.peak);
    return rows;
  }

  open(type, peak) {
    return this.openness ? this.openness[type * this.peaks.start.length + peak] / 65535 : NaN;
  }

  expressed(gene, type) {
    return this.expression ? this.expression[gene * this.types.name.length + type] : NaN;
  }

  // TFs whose motifs match the peak best.
  tfsOf(peak) {
    if (!this.tfs) return [];
    const { first, tf, name } = this.tfs;
    return Array.from(tf.subarray(first[peak], first[peak + 1]), (code) => name[code]);
  }

  peaksIn(chrom, start, end) {
    const found = [];
    const { chrom: chroms, start: starts, end: ends } = this.peaks;
    for (let i = 0; i < starts.length; i++) {
      if (chroms[i] === chrom && ends[i] > start && starts[i] < end) found.push(i);
    }
    return found;
  }

  genesIn(chrom, start, end) {
    const found = [];
    const { chrom: chroms, start: starts, end: ends, tss } = this.genes;
    for (let i = 0; i < chroms.length; i++) {
      const low = starts[i] >= 0 ? starts[i] : tss[i], high = starts[i] >= 0 ? ends[i] : tss[i] + 1;
      if (chroms[i] === chrom && tss[i] >= 0 && high > start && low < end) found.push({ gene: i, low, high });
    }
    return found;
  }

  exonsOf(gene) {
    if (!this.exons) return [];
    const { first, start, end } = this.exons;
    const found = [];
    for (let i = first[gene]; i < first[gene + 1]; i++) found.push([start[i], end[i]]);
    return found;
  }

  csv(rows) {
    const { chrom, start, end } = this.peaks;
    const told = rows.map((row) => [
      this.genes.name[row.gene], this.peakName(row.peak), this.chroms[chrom[row.peak]], start[row.peak],
      end[row.peak], this.genes.tss[row.gene] < 0 ? "" : this.genes.tss[row.gene], row.distance ?? "",
      exactly(row.score), exactly(row.zscore), exactly(row.pvalue), exactly(row.qvalue),
      this.types.name[row.type], row.cells ?? "", exactly(row.effect),
    ]);
    const cell = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
    return [CSV, ...told].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
  }
}
