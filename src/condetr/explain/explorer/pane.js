"use strict";
// One model on the page: its picture, its detections and its heads. What is chosen lies with the page.

class Pane {
  detection = 0;
  point = null;
  isMatched = true;
  shown = null;

  constructor(model, root, page, { onDetection, onLayer, onChange }) {
    this.model = model;
    this.root = root;
    this.page = page;
    this.on = { detection: onDetection, layer: onLayer, change: onChange };
    this.looks = model.looks_at === "points" ? new Points(model, page) : new Cells(model, page);
    this.photo = this.find(".photo");
    this.overlay = this.find(".overlay");
    this.buildOverlay();
    this.buildDetections();
    this.buildCourse();
    this.buildHeads();
    this.listen();
  }

  find(selector) {
    return this.root.querySelector(selector);
  }

  get chosen() {
    return this.model.detections[this.detection];
  }

  get parts() {
    return this.looks.parts;
  }

  // The layer that is shown: a model with fewer layers than another stays at its last one.
  layerOf(layer) {
    return Math.min(layer, this.model.layers - 1);
  }

  headsOf(detection, layer) {
    return this.looks.headsOf(detection, layer, this.point);
  }

  choose(detection) {
    if (detection !== this.detection) this.point = null;
    this.isMatched = detection !== null;
    if (this.isMatched) this.detection = detection;
  }

  compute({ layer }) {
    this.shown = this.headsOf(this.detection, this.layerOf(layer));
  }

  // --- Building, once ---

  buildOverlay() {
    const { detections } = this.model, unit = Math.max(this.page.image.width, this.page.image.height) / 100;
    // Small boxes lie over large ones, so that all can be reached.
    const area = ({ box_xyxy: [x0, y0, x1, y1] }) => (x1 - x0) * (y1 - y0);
    const order = [...detections.keys()].sort((a, b) => area(detections[b]) - area(detections[a]));
    this.boxes = detections.map((each, index) => {
      const name = nameOf(each), box = this.frame(each.box_xyxy, { "data-detection": index, role: "button", "aria-label": name });
      box.append(Object.assign(makeShape("title", {}), { textContent: name }));
      return box;
    });
    this.points = detections.map((each, index) => (each.references_xy[0] ? {
      dot: makeShape("circle", { r: 0.8 * unit }),
      handle: makeShape("circle", { r: 2 * unit, "data-detection": index }),
    } : null));
    this.steps = makeShape("g", {});
    const dots = order.map((index) => this.points[index]).filter(Boolean);
    this.overlay.append(...order.map((index) => this.boxes[index]), this.steps, ...dots.flatMap(Object.values));
  }

  buildDetections() {
    this.buttons = this.model.detections.map((each, index) => {
      const button = Object.assign(document.createElement("button"), { textContent: nameOf(each) });
      button.addEventListener("click", () => this.on.detection(this, index));
      return button;
    });
    this.find(".detections").append(...this.buttons);
  }

  buildCourse() {
    const isKnown = this.chosen.guesses.length === this.model.layers;
    this.find(".course").hidden = !isKnown;
    this.rows = Array.from({ length: isKnown ? this.model.layers : 0 }, (_, layer) => {
      const row = document.createElement("tr"), cells = Array.from({ length: 4 }, () => document.createElement("td"));
      row.style.setProperty("--layer", this.layerColor(layer));
      row.append(...cells);
      cells[0].append(Object.assign(document.createElement("button"), { textContent: layer }));
      row.addEventListener("click", () => this.on.layer(layer));
      return row;
    });
    this.find(".course tbody").append(...this.rows);
  }

  buildHeads() {
    const [blankCard, blankPart] = ["head", "part"].map((id) => document.getElementById(id).content.firstElementChild);
    this.cards = Array.from({ length: this.model.heads }, (_, head) => {
      const card = blankCard.cloneNode(true), button = card.querySelector("button");
      card.querySelector(".number").textContent = `head ${head}`;
      card.setAttribute("aria-label", `head ${head}`);
      button.setAttribute("aria-label", `enlarge head ${head}`);
      button.addEventListener("click", () => {
        button.setAttribute("aria-pressed", String(card.classList.toggle("large")));
        this.on.change();
      });
      const figures = this.parts.map((name) => this.buildPart(blankPart.cloneNode(true), name, card, head));
      card.querySelector(".parts").append(...figures);
      return { card, figures };
    });
    this.find(".heads").append(...this.cards.map(({ card }) => card));
  }

  buildPart(figure, name, card, head) {
    const canvas = figure.querySelector("canvas");
    figure.dataset.part = name;
    figure.querySelector("figcaption b").textContent = name;
    for (const kind of ["pointermove", "pointerleave"]) {
      canvas.addEventListener(kind, (event) => this.tell(card, head, canvas, event));
    }
    const bars = Array.from({ length: this.model.levels ?? 0 }, (_, level) => {
      const bar = document.createElement("span");
      bar.style.setProperty("--level", this.looks.levelColor(level));
      return bar;
    });
    figure.querySelector(".levels").append(...bars);
    return figure;
  }

  listen() {
    this.find(".back").addEventListener("click", () => this.movePoint(null));
    this.overlay.addEventListener("click", ({ target }) => this.chooseShape(target));
    this.overlay.addEventListener("keydown", (event) => this.press(event));
    this.overlay.addEventListener("pointerdown", (event) => {
      if (!event.target.classList.contains("loose")) return;
      event.preventDefault();
      this.overlay.setPointerCapture(event.pointerId);
      this.overlay.addEventListener("pointermove", this.drag);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.overlay.addEventListener(end, () => this.overlay.removeEventListener("pointermove", this.drag));
    }
  }

  chooseShape({ dataset }) {
    if (dataset.detection !== undefined) this.on.detection(this, Number(dataset.detection));
  }

  // Enter chooses the box that has the focus; arrows move the reference point that has it.
  press(event) {
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Enter" || event.key === " ") {
      this.chooseShape(event.target);
    } else if (arrow && event.target.classList.contains("loose")) {
      this.movePoint(this.reference(this.layer).map((place, axis) => clamp(place + 0.02 * arrow[axis])));
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  drag = (event) => {
    const frame = this.overlay.getBoundingClientRect();
    const place = (at, start, size) => clamp((at - start) / size);
    this.movePoint([place(event.clientX, frame.left, frame.width), place(event.clientY, frame.top, frame.height)]);
  };

  movePoint(point) {
    this.point = point;
    this.on.change();
  }

  reference(layer) {
    return this.point ?? this.chosen.references_xy[layer];
  }

  // --- Drawing, whenever something changes ---

  draw(state) {
    this.layer = this.layerOf(state.layer);
    this.root.classList.toggle("unmatched", !this.isMatched);
    this.find(".alone").hidden = this.isMatched;
    this.find(".note.moved").hidden = !this.point;
    this.find(".mixed").hidden = !this.model.mixed_layers.includes(this.layer);
    const found = this.find(".found");
    if (found) found.textContent = `${nameOf(this.chosen)} · query ${this.chosen.query} · layer ${this.layer} of 0 to ${this.model.layers - 1}`;
    this.buttons.forEach((button, index) => button.setAttribute("aria-pressed", String(index === this.detection)));
    this.drawCourse();
    this.drawOverlay(state);
    this.drawHeads(state);
  }

  drawCourse() {
    this.rows.forEach((row, layer) => {
      const guess = this.chosen.guesses[layer], isNow = layer === this.layer;
      const score = guess.score.toFixed(2), common = overlap(guess.box_xyxy, this.chosen.box_xyxy).toFixed(2);
      [guess.name, score, common].forEach((text, index) => { row.children[index + 1].textContent = text; });
      row.classList.toggle("now", isNow);
      setAll(row.querySelector("button"), {
        "aria-pressed": isNow, "aria-label": `layer ${layer}: ${guess.name} ${score}, overlap ${common}`,
      });
    });
  }

  drawOverlay({ path }) {
    const hadFocus = this.boxes.includes(document.activeElement);
    this.boxes.forEach((box, index) => {
      const isNow = index === this.detection;
      setAll(box, { class: isNow ? "box now" : "box", tabindex: isNow ? 0 : -1, "aria-pressed": isNow });
    });
    if (hadFocus) this.boxes[this.detection].focus();
    this.points.forEach((point, index) => {
      if (point) this.drawPoint(point, index);
    });
    this.steps.replaceChildren(...(path ? this.pathOf(this.chosen) : []));
  }

  drawPoint({ dot, handle }, index) {
    const isNow = index === this.detection, isLoose = isNow && this.looks.canMove;
    const [cx, cy] = this.inPixels(isNow ? this.reference(this.layer) : this.model.detections[index].references_xy[this.layer]);
    const kind = `${isNow ? " now" : ""}${isNow && this.point ? " moved" : ""}${isLoose ? " loose" : ""}`;
    setAll(dot, { cx, cy, class: `point${kind}` });
    setAll(handle, { cx, cy, class: `handle${kind}` });
    if (isLoose) {
      setAll(handle, { tabindex: 0, role: "button", "aria-label": "reference point; arrow keys move it, Escape puts it back" });
    } else {
      ["tabindex", "role", "aria-label"].forEach((name) => handle.removeAttribute(name));
    }
  }

  // Where each layer saw the object: its boxes, and a line through their centres.
  pathOf(chosen) {
    if (!this.rows.length) return [];
    const centres = chosen.guesses.map(({ box_xyxy: [x0, y0, x1, y1] }) => this.inPixels([(x0 + x1) / 2, (y0 + y1) / 2]));
    return [
      ...chosen.guesses.map((guess, layer) => this.frame(guess.box_xyxy, {
        class: layer === this.layer ? "step now" : "step", style: `stroke: ${this.layerColor(layer)}`,
      })),
      makeShape("polyline", { points: centres.map((xy) => xy.join(",")).join(" "), class: "course-line" }),
    ];
  }

  inPixels([x, y]) {
    return [x * this.page.image.width, y * this.page.image.height];
  }

  frame(box, attributes) {
    const [x, y] = this.inPixels(box), [right, bottom] = this.inPixels(box.slice(2));
    return makeShape("rect", { x, y, width: Math.max(right - x, 0), height: Math.max(bottom - y, 0), ...attributes });
  }

  layerColor(layer) {
    const share = this.model.layers > 1 ? layer / (this.model.layers - 1) : 1;
    return `hsl(${Math.round(215 - 65 * share)} 100% ${Math.round(66 - 4 * share)}%)`;
  }

  drawHeads({ common, cells }) {
    const style = getComputedStyle(this.root);
    const paint = { bars: style.getPropertyValue("--bars"), mark: style.getPropertyValue("--mark") };
    // Sizes are read before anything is drawn; reading between drawings would lay out the page for every map.
    const sizes = this.cards.map(({ figures }) => this.mapSize(figures[0]));
    const look = {
      photo: this.photo,
      marks: { box: this.chosen.box_xyxy, point: this.reference(this.layer) },
      common: common[this.model.looks_at],
      isCoarse: cells,
      paint,
    };
    this.cards.forEach(({ card, figures }, head) => {
      const word = watched(this.shown[head][this.parts[0]].numbers, this.page.rules);
      card.querySelector(".watches").textContent = word;
      this.parts.forEach((name, index) => {
        const each = this.shown[head][name], canvas = figures[index].querySelector("canvas");
        this.looks.draw(canvas, each, { ...look, size: sizes[head] });
        canvas.setAttribute("aria-label", `${name} of head ${head}, which watches: ${word}`);
        drawNumbers(figures[index], each);
      });
    });
  }

  // The size of a map, in the shape of the image.
  mapSize(figure) {
    const room = figure.clientWidth - this.looks.margin, { width, height } = this.page.image;
    const shown = Math.min((room * height) / width, TALLEST);
    return { width: (shown * width) / height, height: shown };
  }

  // What is under the pointer, in all parts of that head.
  tell(card, head, canvas, event) {
    const frame = canvas.getBoundingClientRect(), size = this.mapSize(canvas.parentElement);
    const x = (event.clientX - frame.left) / size.width, y = (event.clientY - frame.top) / size.height;
    card.querySelectorAll("figcaption span").forEach((place, index) => {
      const isOver = event.type !== "pointerleave" && this.shown;
      place.textContent = isOver ? this.looks.tell(this.shown[head][this.parts[index]], x, y) : "";
    });
  }
}

function nameOf({ name, score }) {
  return `${name} ${score.toFixed(2)}`;
}

function overlap(a, b) {
  const side = (low, high) => Math.max(0, Math.min(a[high], b[high]) - Math.max(a[low], b[low]));
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  const common = side(0, 2) * side(1, 3);
  return common / (area(a) + area(b) - common || 1);
}

function drawNumbers(figure, { numbers, byLevel = [] }) {
  const percent = (share) => `${Math.round(100 * share)}%`;
  const write = (name, text) => { figure.querySelector(`.${name}`).textContent = text; };
  for (const side of SIDES) write(side, percent(numbers.at_sides[side]));
  write("inside", percent(numbers.in_box));
  write("centre", numbers.centre_xy.map((at) => at.toFixed(2)).join(", "));
  const inImage = numbers.in_image === undefined ? "" : ` · ${percent(numbers.in_image)} in the image`;
  write("bits", `${numbers.entropy.toFixed(2)} bits${inImage}`);
  const bars = figure.querySelectorAll(".levels span");
  byLevel.forEach((share, level) => {
    bars[level].style.setProperty("--share", percent(share));
    bars[level].textContent = percent(share);
    bars[level].title = `level ${level}: ${percent(share)}`;
  });
}
