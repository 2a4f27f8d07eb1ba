"use strict";
// Drawing on canvases and in SVG: what is given, nothing that is chosen.

const STRIP = 16, GAP = 3, TALLEST = 340;
const FRAME = "#3dff9e";
const SVG = "http://www.w3.org/2000/svg";

const clamp = (number) => Math.min(Math.max(number, 0), 1);

function makeShape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  setAll(element, attributes);
  return element;
}

function setAll(element, attributes) {
  Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
}

// Make the canvas as large as its content, and return a pen that draws in CSS pixels.
function penOf(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return pen;
}

// The masses as one shape of steps, so that no seams show; `place` turns depth and way along the edge into a point.
function drawBars(pen, masses, depth, place) {
  pen.beginPath();
  pen.moveTo(...place(0, 0));
  masses.forEach((mass, index) => {
    pen.lineTo(...place(depth(mass), index / masses.length));
    pen.lineTo(...place(depth(mass), (index + 1) / masses.length));
  });
  pen.lineTo(...place(0, 1));
  pen.fill();
}

// Enlarging would blend the border cells with nothing; they are repeated outwards first, by `glow`.
function drawSmoothly(pen, cells, width, height) {
  const columns = cells.width - 2, rows = cells.height - 2;
  pen.save();
  pen.beginPath();
  pen.rect(0, 0, width, height);
  pen.clip();
  pen.drawImage(cells, -width / columns, -height / rows, width + (2 * width) / columns, height + (2 * height) / rows);
  pen.restore();
}

// A map as a small picture with a border of one cell: the more attention, the brighter and the less transparent.
function glow(map, { height, width }, brightest, colors) {
  const picture = document.createElement("canvas");
  picture.width = width + 2;
  picture.height = height + 2;
  const pen = picture.getContext("2d"), pixels = pen.createImageData(picture.width, picture.height);
  for (let y = 0, at = 0; y < picture.height; y++) {
    const row = Math.min(Math.max(y - 1, 0), height - 1);
    for (let x = 0; x < picture.width; x++, at += 4) {
      const strength = map[row * width + Math.min(Math.max(x - 1, 0), width - 1)] / brightest;
      const color = 3 * Math.round(255 * strength);
      for (let channel = 0; channel < 3; channel++) pixels.data[at + channel] = colors[color + channel];
      pixels.data[at + 3] = 255 * 0.85 * Math.sqrt(strength);
    }
  }
  pen.putImageData(pixels, 0, 0);
  return picture;
}

const backdrops = new Map();

// The photo in dim grey, with its contrast stretched.
function backdrop(photo, width, height) {
  const key = `${width} ${height}`;
  if (backdrops.has(key)) return backdrops.get(key);
  if (backdrops.size > 8) backdrops.clear();
  const picture = document.createElement("canvas");
  picture.width = Math.max(width, 1);
  picture.height = Math.max(height, 1);
  const pen = picture.getContext("2d");
  pen.drawImage(photo, 0, 0, picture.width, picture.height);
  const pixels = pen.getImageData(0, 0, picture.width, picture.height), greys = [];
  for (let at = 0; at < pixels.data.length; at += 4) {
    greys.push(0.299 * pixels.data[at] + 0.587 * pixels.data[at + 1] + 0.114 * pixels.data[at + 2]);
  }
  const sorted = Float64Array.from(greys).sort(), low = sorted[Math.floor(sorted.length / 100)];
  const span = sorted[Math.floor((99 * (sorted.length - 1)) / 100)] - low || 1;
  greys.forEach((grey, index) => {
    const dim = 255 * (0.1 + 0.6 * clamp((grey - low) / span));
    pixels.data.set([dim, dim, dim], 4 * index);
  });
  pen.putImageData(pixels, 0, 0);
  backdrops.set(key, picture);
  return picture;
}

function drawBackdrop(pen, photo, width, height) {
  const ratio = window.devicePixelRatio || 1;
  pen.drawImage(backdrop(photo, Math.round(width * ratio), Math.round(height * ratio)), 0, 0, width, height);
}

// The box, the reference point and the centre of mass, over what a head looks at.
function drawMarks(pen, { box, point, centre_xy: [x, y] }, width, height) {
  const [x0, y0, x1, y1] = box;
  drawBox(pen, x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height);
  if (point) drawDot(pen, point[0] * width, point[1] * height, { radius: 2.2, color: FRAME });
  drawCross(pen, (x0 + x * (x1 - x0)) * width, (y0 + y * (y1 - y0)) * height);
}

function drawBox(pen, x, y, width, height) {
  for (const [color, thickness] of [["#000a", 2.6], [FRAME, 1.2]]) {
    Object.assign(pen, { strokeStyle: color, lineWidth: thickness });
    pen.strokeRect(x, y, width, height);
  }
}

function drawDot(pen, x, y, { radius, color, edge = "#000" }) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  Object.assign(pen, { fillStyle: color, strokeStyle: edge, lineWidth: 1 });
  pen.fill();
  pen.stroke();
}

function drawCross(pen, x, y) {
  for (const [color, thickness] of [["#000", 2.4], ["#fff", 1]]) {
    Object.assign(pen, { strokeStyle: color, lineWidth: thickness });
    pen.beginPath();
    pen.moveTo(x - 3.5, y);
    pen.lineTo(x + 3.5, y);
    pen.moveTo(x, y - 3.5);
    pen.lineTo(x, y + 3.5);
    pen.stroke();
  }
}
