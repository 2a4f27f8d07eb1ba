"use strict";
// The page: what is chosen for all models, and the controls that choose it.

const page = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const slider = byId("layer");
const SWITCHES = ["common", "cells", "path"].map(byId).filter(Boolean);

const state = { layer: page.first_layer, common: false, cells: false, path: true };

const photo = document.querySelector(".photo");
document.querySelectorAll(".photo:not([src])").forEach((copy) => { copy.src = photo.src; });
const panes = [...document.querySelectorAll(".model")].map((root, index) => new Pane(page.models[index], root, page, {
  onDetection: chooseDetection, onLayer: (layer) => choose({ layer }), onChange: show,
}));
let active = panes[0];

// --- Choosing ---

function choose(changes) {
  Object.assign(state, changes);
  show();
}

// Choose a detection of one model, and in the others the one that is most like it.
function chooseDetection(pane, detection) {
  active = pane;
  pane.choose(detection);
  const { matches } = pane.model.detections[detection];
  panes.forEach((other, index) => {
    if (other !== pane) other.choose(matches[index]);
  });
  show();
}

// Arrow keys choose in the model that was clicked or that has the focus.
function activate(pane) {
  if (pane === active) return;
  active = pane;
  show();
}

function nextDetection(by) {
  const count = active.model.detections.length;
  chooseDetection(active, (active.detection + by + count) % count);
  active.buttons[active.detection].scrollIntoView({ block: "nearest", inline: "nearest" });
}

function nextLayer(by) {
  choose({ layer: Math.min(Math.max(state.layer + by, 0), page.layers - 1) });
}

function putBack() {
  for (const pane of panes) pane.point = null;
  show();
}

const KEYS = {
  ArrowLeft: () => nextDetection(-1),
  ArrowRight: () => nextDetection(1),
  ArrowUp: () => nextLayer(1),
  ArrowDown: () => nextLayer(-1),
  Escape: putBack,
};

// --- Drawing ---

let isWaiting = false;

// Draw soon, once, however many things change before.
function show() {
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => {
    isWaiting = false;
    for (const pane of panes) pane.compute(state);
    const common = state.common ? commonScale() : {};
    drawControls();
    for (const pane of panes) pane.draw({ ...state, common });
  });
}

// The largest numbers of all models that look in the same way.
function commonScale() {
  const scales = {};
  for (const { looks, model, shown } of panes) {
    const known = scales[model.looks_at] ?? {}, here = looks.largest(shown);
    scales[model.looks_at] = Object.fromEntries(
      Object.entries(here).map(([name, number]) => [name, Math.max(number, known[name] ?? 0)]),
    );
  }
  return scales;
}

function drawControls() {
  const { chosen, detection, model } = active;
  byId("chosen").textContent = nameOf(chosen);
  byId("place").textContent = `query ${chosen.query} · ${detection + 1} of ${model.detections.length}`;
  slider.value = state.layer;
  byId("layer-number").textContent = `${state.layer} of 0 to ${page.layers - 1}`;
}

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
  for (const box of SWITCHES) box.addEventListener("change", () => choose({ [box.id]: box.checked }));
  const sizes = new ResizeObserver(show);
  for (const pane of panes) {
    sizes.observe(pane.find(".heads"));
    pane.root.addEventListener("focusin", () => activate(pane));
  }
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
}

slider.max = page.layers - 1;
for (const box of SWITCHES) state[box.id] = box.checked;
byId("movable").hidden = !panes.some(({ looks }) => looks.canMove);
listen();
photo.decode().then(() => chooseDetection(panes[0], 0));
