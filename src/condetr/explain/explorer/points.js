"use strict";
// A model whose heads look at a few points of every level.

class Points {
  parts = ["points"];
  margin = 0;
  canMove = false;

  constructor(model, page) {
    this.model = model;
    this.page = page;
    this.decoded = new Map();
  }

  // Every head's points with their numbers.
  headsOf(detection, layer) {
    const { heads, levels, points: inALevel } = this.model, count = levels * inALevel;
    const { points_xy, weights } = this.pointsOf(detection);
    return Array.from({ length: heads }, (_, head) => {
      const each = layer * heads + head, xy = part(points_xy, each, 2 * count), share = part(weights, each, count);
      const numbers = measurePoints(xy, share, this.model.detections[detection].box_xyxy, this.page.rules.reach);
      const byLevel = Array.from({ length: levels }, (__, level) => part(share, level, inALevel).reduce((a, b) => a + b, 0));
      return { points: { xy, weights: share, byLevel, numbers } };
    });
  }

  pointsOf(detection) {
    if (!this.decoded.has(detection)) {
      const { points_xy, weights } = this.model.detections[detection];
      this.decoded.set(detection, { points_xy: floatsOf(points_xy), weights: floatsOf(weights) });
    }
    return this.decoded.get(detection);
  }

  largest(heads) {
    return { weight: Math.max(...heads.map(({ points }) => Math.max(...points.weights))) };
  }

  // The points over the grey image, the heaviest on top.
  draw(canvas, { xy, weights, numbers }, { photo, marks, size, common }) {
    const { width, height } = size, most = common?.weight ?? Math.max(...weights);
    const pen = penOf(canvas, width, height);
    drawBackdrop(pen, photo, width, height);
    const lightestFirst = Array.from(weights.keys()).sort((a, b) => weights[a] - weights[b]);
    for (const at of lightestFirst) {
      const strength = weights[at] / most;
      pen.globalAlpha = 0.25 + 0.75 * strength;
      const look = { radius: 1 + 4.5 * Math.sqrt(strength), color: this.colorOf(at), edge: "#0006" };
      drawDot(pen, xy[2 * at] * width, xy[2 * at + 1] * height, look);
    }
    pen.globalAlpha = 1;
    drawMarks(pen, { ...marks, ...numbers }, width, height);
  }

  colorOf(point) {
    return this.levelColor(Math.floor(point / this.model.points));
  }

  levelColor(level) {
    return this.page.level_colors[level % this.page.level_colors.length];
  }

  // The nearest point, if one is near.
  tell({ xy, weights }, x, y) {
    const away = Array.from(weights, (_, at) => Math.hypot(xy[2 * at] - x, xy[2 * at + 1] - y));
    const nearest = away.indexOf(Math.min(...away));
    if (away[nearest] > 0.03) return "";
    return `level ${Math.floor(nearest / this.model.points)}: ${percentOf(weights[nearest])}`;
  }
}
