"use strict";
// A model whose heads weigh every cell: three maps of each head.

class Cells {
  parts = ["spatial", "content", "combined"];
  margin = STRIP + GAP; // for the bars

  constructor(model, page) {
    this.model = model;
    this.page = page;
    this.colors = bytesOf(page.colors);
    this.decoded = new Map();
    this.movingLayers = model.moving.layers.map((layer) => ({
      heads: model.heads,
      ...Object.fromEntries(Object.entries(layer).map(([name, text]) => [name, floatsOf(text)])),
    }));
  }

  get canMove() {
    return this.movingLayers.length > 0;
  }

  // Every head's three maps with their numbers; `point` is where the reference point is moved to, if it is.
  headsOf(detection, layer, point) {
    const { height, width } = this.model.cells, { box_xyxy: box } = this.model.detections[detection];
    const moved = point && this.moved(detection, layer, point);
    return Array.from({ length: this.model.heads }, (_, head) => {
      const spatial = moved ? sumOfParts(moved[head].rows, moved[head].columns) : this.spatialLogits(detection, layer, head);
      const content = this.contentLogits(detection, layer, head);
      return Object.fromEntries([spatial, content, addLogits(spatial, content)].map((logits, index) => {
        const map = softmax(logits), numbers = measure(map, height, width, box, this.page.rules.reach);
        return [this.parts[index], { map, numbers, ...marginals(map, height, width) }];
      }));
    });
  }

  spatialLogits(detection, layer, head) {
    const { spatial } = this.logitsOf(detection), { height, width } = this.model.cells;
    const map = layer * this.model.heads + head;
    if (spatial.whole) return Float64Array.from(part(spatial.whole, map, height * width));
    return sumOfParts(part(spatial.rows, map, height), part(spatial.columns, map, width));
  }

  contentLogits(detection, layer, head) {
    const { height, width } = this.model.cells;
    return Float64Array.from(part(this.logitsOf(detection).content, layer * this.model.heads + head, height * width));
  }

  // The row and column parts of every head if the reference point were elsewhere.
  moved(detection, layer, [x, y]) {
    const all = floatsOf(this.model.detections[detection].transformation), width = all.length / this.model.layers;
    return movedSpatial(this.movingLayers[layer], part(all, layer, width), x, y, this.model.moving.temperature);
  }

  logitsOf(detection) {
    if (!this.decoded.has(detection)) {
      const { spatial, content } = this.model.detections[detection];
      this.decoded.set(detection, {
        spatial: Object.fromEntries(Object.entries(spatial).map(([name, text]) => [name, floatsOf(text)])),
        content: floatsOf(content),
      });
    }
    return this.decoded.get(detection);
  }

  // The largest masses: what is drawn brightest, and the longest bar.
  largest(heads) {
    const all = heads.flatMap((head) => Object.values(head));
    return this.largestOf(all);
  }

  largestOf(parts) {
    const most = (name) => parts.reduce((so, each) => each[name].reduce((a, b) => Math.max(a, b), so), 0);
    const row = most("rows"), column = most("columns");
    return { cell: most("map"), row, column, bar: Math.max(row, column) };
  }

  // One map over the grey image, its rows' mass to the right and its columns' mass below.
  draw(canvas, each, { photo, marks, size, common, isCoarse, paint }) {
    const { width, height } = size, own = this.largestOf([each]), [x0, y0, x1, y1] = marks.box.map(clamp);
    const pen = penOf(canvas, width + STRIP + GAP, height + STRIP + GAP);
    drawBackdrop(pen, photo, width, height);
    pen.imageSmoothingEnabled = !isCoarse;
    pen.imageSmoothingQuality = "high";
    drawSmoothly(pen, glow(each.map, this.model.cells, common?.cell ?? own.cell, this.colors), width, height);
    drawMarks(pen, { ...marks, ...each.numbers }, width, height);
    pen.fillStyle = paint.mark;
    pen.fillRect(width + GAP, y0 * height, STRIP, (y1 - y0) * height);
    pen.fillRect(x0 * width, height + GAP, (x1 - x0) * width, STRIP);
    pen.fillStyle = paint.bars;
    pen.translate(width + GAP, 0);
    const rowScale = STRIP / (common?.bar ?? own.row), columnScale = STRIP / (common?.bar ?? own.column);
    drawBars(pen, each.rows, (mass) => mass * rowScale, (depth, along) => [depth, along * height]);
    pen.translate(-width - GAP, height + GAP);
    drawBars(pen, each.columns, (mass) => mass * columnScale, (depth, along) => [along * width, depth]);
  }

  // What is at a place of the image, relative to it: the share of the cell.
  tell(each, x, y) {
    const { height, width } = this.model.cells;
    if (x < 0 || x >= 1 || y < 0 || y >= 1) return "";
    return percentOf(each.map[Math.floor(y * height) * width + Math.floor(x * width)]);
  }
}

function part(numbers, index, length) {
  return numbers.subarray(index * length, (index + 1) * length);
}

function percentOf(share) {
  return `${(100 * share).toPrecision(2)}%`;
}
