"use strict";
// The arrays of the page: one compressed block; the description of an array holds its shape and where it starts.

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

const product = (sizes) => sizes.reduce((all, size) => all * size, 1);

// Rows of 8-bit codes with one scale per row: value = scale · (code / 255)².
class Rows {
  constructor(buffer, { shape, scale, codes }) {
    this.keys = shape[shape.length - 1];
    const rows = product(shape) / Math.max(this.keys, 1);
    this.scale = new Float32Array(buffer, scale, rows);
    this.codes = new Uint8Array(buffer, codes, rows * this.keys);
  }

  // Add one row to `into`.
  add(row, into) {
    const scale = this.scale[row] / (255 * 255);
    const start = row * this.keys;
    for (let key = 0; key < this.keys; key++) {
      const code = this.codes[start + key];
      into[key] += scale * code * code;
    }
  }

  mean(rows) {
    const found = new Float64Array(this.keys);
    for (const row of rows) this.add(row, found);
    return found.map((value) => value / rows.length);
  }
}

// Rows by layer, head and token of the reply.
class Layered {
  constructor(buffer, about) {
    [this.layers, this.heads, this.tokens] = about.shape;
    this.rows = new Rows(buffer, about);
  }

  indices(token, layer, head) {
    const chosen = [];
    for (const l of layer === null ? range(this.layers) : [layer])
      for (const h of head === null ? range(this.heads) : [head]) chosen.push((l * this.heads + h) * this.tokens + token);
    return chosen;
  }

  at(token, layer, head) { return this.rows.mean(this.indices(token, layer, head)); }
}

// Shares of the parts, stored to 1 / 65535.
class Shares {
  constructor(buffer, { shape, codes }) {
    this.shape = shape;
    this.codes = new Uint16Array(buffer, codes, product(shape));
  }

  mean(rows) {
    const parts = this.shape[this.shape.length - 1];
    return range(parts).map((part) => rows.reduce((sum, row) => sum + this.codes[row * parts + part], 0) / 65535 / rows.length);
  }
}

const range = (count) => Array.from({ length: count }, (_, index) => index);
const sum = (values) => values.reduce((all, value) => all + value, 0);
