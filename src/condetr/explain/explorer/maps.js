"use strict";
// The mathematics of attention maps: numbers in, numbers out. Maps are flat arrays, row after row.
// The measures are those of condetr.explain.measures, which the tests hold them against.

const SIDES = ["left", "top", "right", "bottom"];
const OPPOSITE = { left: "right", top: "bottom", right: "left", bottom: "top" };

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function floatsOf(text) {
  return new Float32Array(bytesOf(text).buffer);
}

// The spatial logits of one map: a row part plus a column part.
function sumOfParts(rows, columns) {
  const logits = new Float64Array(rows.length * columns.length);
  rows.forEach((row, i) => columns.forEach((column, j) => { logits[i * columns.length + j] = row + column; }));
  return logits;
}

function addLogits(a, b) {
  return a.map((logit, cell) => logit + b[cell]);
}

function softmax(logits) {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = logits.map((logit) => Math.exp(logit - most));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

// How much of the map lies in each row, and in each column.
function marginals(map, height, width) {
  const rows = new Float64Array(height), columns = new Float64Array(width);
  map.forEach((mass, cell) => {
    rows[Math.floor(cell / width)] += mass;
    columns[cell % width] += mass;
  });
  return { rows, columns };
}

// Where the mass lies, seen from a box that is relative to the image. A cell's mass is spread evenly over its square.
function measure(map, height, width, box, reach) {
  const [left, top] = box, boxWidth = Math.max(box[2] - left, 1e-6), boxHeight = Math.max(box[3] - top, 1e-6);
  const { rows, columns } = marginals(map, height, width);
  const share = (x0, y0, x1, y1) => {
    const xs = covered(width, left + boxWidth * x0, left + boxWidth * x1);
    const ys = covered(height, top + boxHeight * y0, top + boxHeight * y1);
    return map.reduce((sum, mass, cell) => sum + mass * ys[Math.floor(cell / width)] * xs[cell % width], 0);
  };
  const entropy = entropyOf(map);
  return {
    centre_xy: [(centre(columns) - left) / boxWidth, (centre(rows) - top) / boxHeight],
    ...sharesOfRegions(share, reach),
    entropy,
    evenness: entropy / Math.log2(Math.max(map.length, 2)),
  };
}

// The same of points with weights; `points` has x and y of each in turn. However even, they may lie in one place.
function measurePoints(points, weights, box, reach) {
  const [left, top] = box, boxWidth = Math.max(box[2] - left, 1e-6), boxHeight = Math.max(box[3] - top, 1e-6);
  const xs = [], ys = [];
  weights.forEach((_, index) => {
    xs.push((points[2 * index] - left) / boxWidth);
    ys.push((points[2 * index + 1] - top) / boxHeight);
  });
  const sum = (factor) => weights.reduce((total, weight, index) => total + weight * factor(index), 0);
  const share = (x0, y0, x1, y1) => sum((at) => Number(x0 <= xs[at] && xs[at] <= x1 && y0 <= ys[at] && ys[at] <= y1));
  return {
    centre_xy: [sum((at) => xs[at]), sum((at) => ys[at])],
    ...sharesOfRegions(share, reach),
    entropy: entropyOf(weights),
    in_image: sum((at) => Number([points[2 * at], points[2 * at + 1]].every((place) => place >= 0 && place <= 1))),
  };
}

function sharesOfRegions(share, reach) {
  return {
    in_box: share(0, 0, 1, 1),
    at_sides: {
      left: share(-reach, -reach, reach, 1 + reach),
      top: share(-reach, -reach, 1 + reach, reach),
      right: share(1 - reach, -reach, 1 + reach, 1 + reach),
      bottom: share(-reach, 1 - reach, 1 + reach, 1 + reach),
    },
  };
}

function entropyOf(masses) {
  return Math.abs(masses.reduce((sum, mass) => (mass > 0 ? sum + mass * Math.log2(mass) : sum), 0));
}

// How much of each of equal cells of [0, 1] lies between two points.
function covered(cells, low, high) {
  const clipped = (edge) => Math.min(Math.max(edge / cells, low), high);
  return Float64Array.from({ length: cells }, (_, cell) => (clipped(cell + 1) - clipped(cell)) * cells);
}

function centre(mass) {
  return mass.reduce((sum, each, cell) => sum + (each * (cell + 0.5)) / mass.length, 0);
}

// What a head watches, in a word; `rules` are the limits of condetr.explain.measures.
function watched(numbers, rules) {
  if (numbers.evenness >= rules.even) return "everywhere";
  const side = SIDES.reduce((best, each) => (numbers.at_sides[each] > numbers.at_sides[best] ? each : best));
  const share = numbers.at_sides[side], opposite = numbers.at_sides[OPPOSITE[side]];
  if (share >= rules.least_share && share >= rules.least_ratio * opposite) return side;
  return numbers.in_box >= 0.5 ? "inside" : "elsewhere";
}

// The sine embedding of a point in [0, 1]: the block of y comes first, then that of x.
function pointEmbedding(x, y, width, temperature) {
  const block = (place) => {
    const half = width / 2, numbers = [];
    for (let pair = 0; pair < half / 2; pair++) {
      const phase = (place * 2 * Math.PI) / temperature ** ((2 * pair) / half);
      numbers.push(Math.sin(phase), Math.cos(phase));
    }
    return numbers;
  };
  return Float64Array.from([...block(y), ...block(x)]);
}

// The row and column parts of every head's spatial logits if the reference point were at (x, y):
// p_q = T(f) p_s (equation 4 of the paper), projected, against the projected positions of rows and columns.
function movedSpatial(layer, transformation, x, y, temperature) {
  const width = transformation.length, headWidth = width / layer.heads;
  const p_q = pointEmbedding(x, y, width, temperature).map((number, channel) => number * transformation[channel]);
  const query = Float64Array.from(layer.bias, (bias, out) => {
    let sum = bias;
    for (let channel = 0; channel < width; channel++) sum += layer.weight[out * width + channel] * p_q[channel];
    return sum;
  });
  const against = (keys, head) => Float64Array.from({ length: keys.length / width }, (_, place) => {
    let sum = 0;
    for (let channel = head * headWidth; channel < (head + 1) * headWidth; channel++) {
      sum += keys[place * width + channel] * query[channel];
    }
    return sum / Math.sqrt(2 * headWidth);
  });
  return Array.from({ length: layer.heads }, (_, head) => ({
    rows: against(layer.rows, head),
    columns: against(layer.columns, head),
  }));
}
