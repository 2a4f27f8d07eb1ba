"use strict";
// The page: what is chosen, what follows from it, and drawing that.

const data = JSON.parse(document.getElementById("data").textContent);
const PARTS = ["spatial", "content", "combined"];
const STRIP = 16, GAP = 3, TALLEST = 340;
const SVG = "http://www.w3.org/2000/svg";
const colors = bytesOf(data.colors);
const { height: rowCount, width: columnCount } = data.cells;
const cellCount = rowCount * columnCount;
const byId = (id) => document.getElementById(id);
const photo = byId("photo"), overlay = byId("overlay"), slider = byId("layer");

const state = { detection: 0, layer: data.first_layer, common: false, cells: false, path: true, point: null };

// --- What is chosen, and the maps that follow ---

const decoded = new Map();

function logitsOf(detection) {
  if (!decoded.has(detection)) {
    const { spatial, content } = data.detections[detection];
    decoded.set(detection, {
      spatial: Object.fromEntries(Object.entries(spatial).map(([name, text]) => [name, floatsOf(text)])),
      codes: new Uint16Array(bytesOf(content.codes).buffer),
      low: floatsOf(content.low),
      step: floatsOf(content.step),
    });
  }
  return decoded.get(detection);
}

function spatialLogits(detection, layer, head) {
  if (state.point) {
    const { rows, columns } = moved(detection, layer)[head];
    return sumOfParts(rows, columns);
  }
  const { spatial } = logitsOf(detection), map = layer * data.heads + head;
  if (spatial.whole) return Float64Array.from(part(spatial.whole, map, cellCount));
  return sumOfParts(part(spatial.rows, map, rowCount), part(spatial.columns, map, columnCount));
}

function contentLogits(detection, layer, head) {
  const { codes, low, step } = logitsOf(detection), map = layer * data.heads + head;
  return fromSteps(part(codes, map, cellCount), low[map], step[map]);
}

function part(numbers, index, length) {
  return numbers.subarray(index * length, (index + 1) * length);
}

// Every head's three maps with their numbers.
function headsOf(detection, layer) {
  return Array.from({ length: data.heads }, (_, head) => {
    const spatial = spatialLogits(detection, layer, head), content = contentLogits(detection, layer, head);
    return Object.fromEntries([spatial, content, addLogits(spatial, content)].map((logits, index) => {
      const map = softmax(logits), { box_xyxy } = data.detections[detection];
      const numbers = measure(map, rowCount, columnCount, box_xyxy, data.rules.reach);
      return [PARTS[index], { map, numbers, ...marginals(map, rowCount, columnCount) }];
    }));
  });
}

// --- A reference point that is moved ---

const movingLayers = (data.moving?.layers ?? []).map((layer) => ({
  heads: data.heads,
  ...Object.fromEntries(Object.entries(layer).map(([name, text]) => [name, floatsOf(text)])),
}));

function moved(detection, layer) {
  const all = floatsOf(data.detections[detection].transformation), width = all.length / data.layers;
  const transformation = part(all, layer, width), [x, y] = state.point;
  return movedSpatial(movingLayers[layer], transformation, x, y, data.moving.temperature);
}

function movePoint(event) {
  const frame = overlay.getBoundingClientRect();
  const place = (at, start, size) => Math.min(Math.max((at - start) / size, 0), 1);
  state.point = [place(event.clientX, frame.left, frame.width), place(event.clientY, frame.top, frame.height)];
  show();
}

// --- Drawing ---

let isWaiting = false, shown = null;

// Draw soon, once, however many things change before.
function show() {
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => {
    isWaiting = false;
    shown = headsOf(state.detection, state.layer);
    drawPicture();
    drawControls();
    drawHeads(shown);
  });
}

function drawControls() {
  const chosen = data.detections[state.detection];
  byId("chosen").textContent = `${chosen.name} ${chosen.score.toFixed(2)}`;
  byId("place").textContent = `query ${chosen.query} · ${state.detection + 1} of ${data.detections.length}`;
  slider.value = state.layer;
  byId("layer-number").textContent = `${state.layer} of 0 to ${data.layers - 1}`;
  byId("mixed").hidden = !data.mixed_layers.includes(state.layer);
  byId("moved").hidden = !state.point;
  document.querySelectorAll("#detections button").forEach((button, index) => {
    button.setAttribute("aria-pressed", String(index === state.detection));
  });
  drawGuesses(chosen);
}

function drawGuesses(chosen) {
  const rows = chosen.guesses.map((guess, layer) => {
    const row = document.createElement("tr");
    row.className = layer === state.layer ? "now" : "";
    row.style.setProperty("--layer", layerColor(layer));
    for (const text of [layer, guess.name, guess.score.toFixed(2), overlap(guess.box_xyxy, chosen.box_xyxy).toFixed(2)]) {
      row.append(Object.assign(document.createElement("td"), { textContent: text }));
    }
    row.addEventListener("click", () => choose({ layer }));
    return row;
  });
  byId("guesses").replaceChildren(...(rows.length === data.layers ? rows : []));
  byId("course").hidden = rows.length !== data.layers;
}

function overlap(a, b) {
  const side = (low, high) => Math.max(0, Math.min(a[high], b[high]) - Math.max(a[low], b[low]));
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  const common = side(0, 2) * side(1, 3);
  return common / (area(a) + area(b) - common || 1);
}

function layerColor(layer) {
  const share = data.layers > 1 ? layer / (data.layers - 1) : 1;
  return `hsl(${Math.round(215 - 65 * share)} 100% ${Math.round(66 - 4 * share)}%)`;
}

function drawPicture() {
  const { width, height } = data.image, chosen = data.detections[state.detection];
  const inPixels = ([x, y]) => [x * width, y * height];
  const make = (name, attributes) => {
    const element = document.createElementNS(SVG, name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    return element;
  };
  const frame = (box, attributes) => {
    const [x, y] = inPixels(box), [right, bottom] = inPixels(box.slice(2));
    const size = { x, y, width: Math.max(right - x, 0), height: Math.max(bottom - y, 0) };
    return make("rect", { ...size, ...attributes });
  };
  const unit = Math.max(width, height) / 100;
  // Small boxes lie over large ones, so that all can be reached.
  const area = ({ box_xyxy: [x0, y0, x1, y1] }) => (x1 - x0) * (y1 - y0);
  const order = data.detections.map((_, index) => index).sort((a, b) => area(data.detections[b]) - area(data.detections[a]));
  const boxes = order.map((index) => {
    const each = data.detections[index];
    const box = frame(each.box_xyxy, { class: index === state.detection ? "box now" : "box", "data-detection": index });
    box.append(Object.assign(make("title", {}), { textContent: `${each.name} ${each.score.toFixed(2)}` }));
    return box;
  });
  const points = order.filter((index) => data.detections[index].reference_xy).flatMap((index) => {
    const isNow = index === state.detection, isMoved = isNow && state.point;
    const [cx, cy] = inPixels(isMoved ? state.point : data.detections[index].reference_xy);
    const kind = `${isNow ? " now" : ""}${isMoved ? " moved" : ""}${isNow && movingLayers.length ? " loose" : ""}`;
    return [
      make("circle", { cx, cy, r: 0.8 * unit, class: `point${kind}` }),
      make("circle", { cx, cy, r: 2 * unit, class: `handle${kind}`, "data-detection": index }),
    ];
  });
  overlay.replaceChildren(...boxes, ...(state.path ? pathOf(chosen, { make, frame, inPixels }) : []), ...points);
}

// Where each layer saw the object: its boxes, and a line through their centres.
function pathOf(chosen, { make, frame, inPixels }) {
  if (chosen.guesses.length !== data.layers) return [];
  const centres = chosen.guesses.map(({ box_xyxy: [x0, y0, x1, y1] }) => inPixels([(x0 + x1) / 2, (y0 + y1) / 2]));
  return [
    ...chosen.guesses.map((guess, layer) => frame(guess.box_xyxy, {
      class: layer === state.layer ? "step now" : "step", style: `stroke: ${layerColor(layer)}`,
    })),
    make("polyline", { points: centres.map((xy) => xy.join(",")).join(" "), class: "course" }),
  ];
}

function drawHeads(heads) {
  const brightest = Math.max(...heads.flatMap((parts) => PARTS.map((name) => Math.max(...parts[name].map))));
  const tallest = Math.max(...heads.flatMap((parts) => PARTS.flatMap(
    (name) => [...parts[name].rows, ...parts[name].columns],
  )));
  const cards = [...document.querySelectorAll("#heads .head")], style = getComputedStyle(byId("heads"));
  const paint = { bars: style.getPropertyValue("--bars"), mark: style.getPropertyValue("--mark") };
  // Sizes are read before anything is drawn; reading between drawings would lay out the page for every map.
  const sizes = cards.map((card) => mapSize(card.querySelector("figure")));
  cards.forEach((card, head) => {
    const word = watched(heads[head].spatial.numbers, data.rules);
    card.querySelector(".watches").textContent = word;
    for (const name of PARTS) {
      const figure = card.querySelector(`[data-part="${name}"]`), each = heads[head][name];
      drawPanel(figure.querySelector("canvas"), each, {
        ...sizes[head],
        ...paint,
        brightest: state.common ? brightest : Math.max(...each.map),
        tallestRow: state.common ? tallest : Math.max(...each.rows),
        tallestColumn: state.common ? tallest : Math.max(...each.columns),
      });
      drawNumbers(figure.querySelector(".numbers"), each.numbers);
    }
  });
}

function drawNumbers(place, numbers) {
  const percent = (share) => `${Math.round(100 * share)}%`;
  for (const side of SIDES) place.querySelector(`.${side}`).textContent = percent(numbers.at_sides[side]);
  place.querySelector(".inside").textContent = percent(numbers.in_box);
  place.querySelector(".centre").textContent = numbers.centre_xy.map((at) => at.toFixed(2)).join(", ");
  place.querySelector(".bits").textContent = `${numbers.entropy.toFixed(2)} bits`;
}

// The size of a map, in the shape of the image, that leaves room for the bars.
function mapSize(figure) {
  const room = figure.clientWidth - STRIP - GAP;
  const height = Math.min((room * data.image.height) / data.image.width, TALLEST);
  return { width: (height * data.image.width) / data.image.height, height };
}

// One map over the grey image, its rows' mass to the right and its columns' mass below.
function drawPanel(canvas, { map, rows, columns, numbers }, look) {
  const ratio = window.devicePixelRatio || 1, { width, height, brightest, tallestRow, tallestColumn } = look;
  canvas.width = Math.round((width + STRIP + GAP) * ratio);
  canvas.height = Math.round((height + STRIP + GAP) * ratio);
  canvas.style.width = `${width + STRIP + GAP}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.drawImage(backdrop(Math.round(width * ratio), Math.round(height * ratio)), 0, 0, width, height);
  pen.imageSmoothingEnabled = !state.cells;
  pen.imageSmoothingQuality = "high";
  drawSmoothly(pen, glow(map, brightest), width, height);
  const chosen = data.detections[state.detection], [x0, y0, x1, y1] = chosen.box_xyxy;
  drawBox(pen, x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height);
  const point = state.point ?? chosen.reference_xy;
  if (point) drawDot(pen, point[0] * width, point[1] * height);
  drawCross(pen, (x0 + numbers.centre_xy[0] * (x1 - x0)) * width, (y0 + numbers.centre_xy[1] * (y1 - y0)) * height);
  pen.fillStyle = look.mark;
  pen.fillRect(width + GAP, clamp(y0) * height, STRIP, (clamp(y1) - clamp(y0)) * height);
  pen.fillRect(clamp(x0) * width, height + GAP, (clamp(x1) - clamp(x0)) * width, STRIP);
  pen.fillStyle = look.bars;
  pen.translate(width + GAP, 0);
  drawBars(pen, rows, (mass) => (STRIP * mass) / tallestRow, (depth, along) => [depth, along * height]);
  pen.translate(-width - GAP, height + GAP);
  drawBars(pen, columns, (mass) => (STRIP * mass) / tallestColumn, (depth, along) => [along * width, depth]);
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

const clamp = (number) => Math.min(Math.max(number, 0), 1);

// Enlarging would blend the border cells with nothing; they are repeated outwards first.
function drawSmoothly(pen, cells, width, height) {
  pen.save();
  pen.beginPath();
  pen.rect(0, 0, width, height);
  pen.clip();
  pen.drawImage(cells, -width / columnCount, -height / rowCount, width + (2 * width) / columnCount, height + (2 * height) / rowCount);
  pen.restore();
}

// A map as a small picture with a border of one cell: the more attention, the brighter and the less transparent.
function glow(map, brightest) {
  const picture = document.createElement("canvas");
  picture.width = columnCount + 2;
  picture.height = rowCount + 2;
  const pen = picture.getContext("2d"), pixels = pen.createImageData(picture.width, picture.height);
  for (let y = 0; y < picture.height; y++) {
    for (let x = 0; x < picture.width; x++) {
      const row = Math.min(Math.max(y - 1, 0), rowCount - 1), column = Math.min(Math.max(x - 1, 0), columnCount - 1);
      const strength = map[row * columnCount + column] / brightest, color = 3 * Math.round(255 * strength);
      pixels.data.set([...colors.subarray(color, color + 3), 255 * 0.85 * Math.sqrt(strength)], 4 * (y * picture.width + x));
    }
  }
  pen.putImageData(pixels, 0, 0);
  return picture;
}

const backdrops = new Map();

// The image in dim grey, with its contrast stretched.
function backdrop(width, height) {
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

function drawBox(pen, x, y, width, height) {
  for (const [color, thickness] of [["#000a", 2.6], ["#3dff9e", 1.2]]) {
    Object.assign(pen, { strokeStyle: color, lineWidth: thickness });
    pen.strokeRect(x, y, width, height);
  }
}

function drawDot(pen, x, y) {
  pen.beginPath();
  pen.arc(x, y, 2.2, 0, 2 * Math.PI);
  Object.assign(pen, { fillStyle: "#3dff9e", strokeStyle: "#000", lineWidth: 1 });
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

// The cell under the pointer: what it has in the three maps of that head.
function tellCell(card, head, canvas, event) {
  const frame = canvas.getBoundingClientRect(), size = mapSize(canvas.parentElement);
  const row = Math.floor(((event.clientY - frame.top) / size.height) * rowCount);
  const column = Math.floor(((event.clientX - frame.left) / size.width) * columnCount);
  const isInside = row >= 0 && row < rowCount && column >= 0 && column < columnCount;
  card.querySelectorAll("figcaption span").forEach((place, index) => {
    const share = isInside && shown ? shown[head][PARTS[index]].map[row * columnCount + column] : null;
    place.textContent = share === null ? "" : `${(100 * share).toPrecision(2)}%`;
  });
}

// --- Choosing ---

function choose(changes) {
  if ("detection" in changes && changes.detection !== state.detection) state.point = null;
  Object.assign(state, changes);
  show();
}

function nextDetection(by) {
  const count = data.detections.length;
  choose({ detection: (state.detection + by + count) % count });
  byId("detections").children[state.detection].scrollIntoView({ block: "nearest", inline: "nearest" });
}

function nextLayer(by) {
  choose({ layer: Math.min(Math.max(state.layer + by, 0), data.layers - 1) });
}

const KEYS = {
  ArrowLeft: () => nextDetection(-1),
  ArrowRight: () => nextDetection(1),
  ArrowUp: () => nextLayer(1),
  ArrowDown: () => nextLayer(-1),
  Escape: () => choose({ point: null }),
};

function listen() {
  document.addEventListener("keydown", (event) => {
    const isSliding = event.target === slider && event.key !== "Escape";
    if (event.ctrlKey || event.altKey || event.metaKey || isSliding || !(event.key in KEYS)) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  slider.addEventListener("input", () => choose({ layer: Number(slider.value) }));
  slider.addEventListener("pointerup", () => slider.blur());
  byId("before").addEventListener("click", () => nextDetection(-1));
  byId("after").addEventListener("click", () => nextDetection(1));
  byId("back").addEventListener("click", () => choose({ point: null }));
  for (const name of ["common", "cells", "path"]) {
    byId(name).addEventListener("change", (event) => choose({ [name]: event.target.checked }));
  }
  overlay.addEventListener("click", ({ target: { dataset } }) => {
    if (dataset.detection !== undefined) choose({ detection: Number(dataset.detection) });
  });
  overlay.addEventListener("pointerdown", (event) => {
    if (!event.target.classList.contains("loose")) return;
    event.preventDefault();
    overlay.setPointerCapture(event.pointerId);
    overlay.addEventListener("pointermove", movePoint);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    overlay.addEventListener(end, () => overlay.removeEventListener("pointermove", movePoint));
  }
  new ResizeObserver(show).observe(byId("heads"));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
}

function build() {
  const blank = byId("head");
  for (let head = 0; head < data.heads; head++) {
    const card = blank.content.firstElementChild.cloneNode(true);
    for (const canvas of card.querySelectorAll("canvas")) {
      canvas.addEventListener("pointermove", (event) => tellCell(card, head, canvas, event));
      canvas.addEventListener("pointerleave", (event) => tellCell(card, head, canvas, event));
    }
    card.querySelector(".number").textContent = `head ${head}`;
    card.querySelector("button").addEventListener("click", ({ currentTarget }) => {
      const isLarge = card.classList.toggle("large");
      currentTarget.setAttribute("aria-pressed", String(isLarge));
      show();
    });
    byId("heads").append(card);
  }
  data.detections.forEach(({ name, score }, index) => {
    const button = Object.assign(document.createElement("button"), { textContent: `${name} ${score.toFixed(2)}` });
    button.addEventListener("click", () => choose({ detection: index }));
    byId("detections").append(button);
  });
  slider.max = data.layers - 1;
  state.common = byId("common").checked;
  state.cells = byId("cells").checked;
  state.path = byId("path").checked;
  byId("movable").hidden = !movingLayers.length;
}

build();
listen();
photo.decode().then(show);
