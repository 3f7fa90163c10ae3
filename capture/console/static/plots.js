// Curves of an episode on a canvas: every line has a colour, a dash and a name at its end.

import { el } from "./dom.js";

const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#808080", "#b5a000"];
const DASHES = [[], [7, 3], [2, 2], [8, 3, 2, 3], [12, 4], [4, 2], [1, 3], [10, 2, 2, 2, 2, 2]];
const HEIGHT = 180;
const ROOM = { left: 52, right: 86, top: 10, bottom: 26 };

export function drawPlots(place, curves) {
  place.replaceChildren();
  for (const panel of curves.panels) {
    const canvas = el("canvas", { role: "img" });
    canvas.setAttribute("aria-label", described(panel, curves.time_s));
    place.append(el("figure", { className: "plot" }, el("figcaption", {}, `${panel.title} (${panel.unit})`), canvas));
    draw(canvas, panel, curves.time_s);
  }
}

function described(panel, time) {
  const spans = Object.entries(panel.lines).map(
    ([name, values]) => `${name} from ${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)}`
  );
  return `${panel.title} in ${panel.unit} over ${time.at(-1)?.toFixed(1) ?? 0} seconds: ${spans.join(", ")}`;
}

function draw(canvas, panel, time) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.parentElement.clientWidth;
  canvas.width = width * scale;
  canvas.height = HEIGHT * scale;
  canvas.style.height = `${HEIGHT}px`;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const ink = getComputedStyle(canvas).getPropertyValue("color");
  const lines = Object.entries(panel.lines);
  const all = lines.flatMap(([, values]) => values);
  const pad = (Math.max(...all) - Math.min(...all)) * 0.06 || 0.01;
  const [low, high] = [Math.min(...all) - pad, Math.max(...all) + pad];
  const last = time.at(-1) || 1e-3;
  const across = (t) => ROOM.left + (t / last) * (width - ROOM.left - ROOM.right);
  const up = (v) => HEIGHT - ROOM.bottom - ((v - low) / (high - low)) * (HEIGHT - ROOM.bottom - ROOM.top);
  axes(pen, { ink, width, low, high, last, across, up });
  const ends = [];
  lines.forEach(([name, values], index) => {
    pen.strokeStyle = pen.fillStyle = COLOURS[index % COLOURS.length];
    pen.setLineDash(DASHES[index % DASHES.length]);
    pen.lineWidth = 1.8;
    pen.beginPath();
    values.forEach((value, row) => pen.lineTo(across(time[row]), up(value)));
    pen.stroke();
    ends.push({ name, colour: pen.strokeStyle, y: up(values.at(-1)) });
  });
  pen.setLineDash([]);
  pen.font = "12px system-ui, sans-serif";
  pen.textAlign = "left";
  for (const end of apart(ends)) {
    pen.fillStyle = end.colour;
    pen.fillText(end.name, width - ROOM.right + 6, end.y + 4);
  }
}

function axes(pen, { ink, width, low, high, last, across, up }) {
  pen.strokeStyle = pen.fillStyle = ink;
  pen.font = "12px system-ui, sans-serif";
  pen.lineWidth = 1;
  for (const value of ticks(low, high, 4)) {
    pen.globalAlpha = 0.18;
    pen.beginPath();
    pen.moveTo(ROOM.left, up(value));
    pen.lineTo(width - ROOM.right, up(value));
    pen.stroke();
    pen.globalAlpha = 0.8;
    pen.textAlign = "right";
    pen.fillText(String(Number(value.toPrecision(3))), ROOM.left - 6, up(value) + 4);
  }
  pen.textAlign = "center";
  for (const value of ticks(0, last, 6)) pen.fillText(`${Number(value.toPrecision(3))} s`, across(value), HEIGHT - 8);
  pen.globalAlpha = 1;
}

// Round numbers from low to high, about `count` of them.
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(value);
  return found;
}

// Names at the ends of lines, moved apart where they would lie on each other.
function apart(ends) {
  const sorted = [...ends].sort((one, other) => one.y - other.y);
  sorted.forEach((end, place) => {
    if (place) end.y = Math.max(end.y, sorted[place - 1].y + 13);
  });
  const over = (sorted.at(-1)?.y ?? 0) - (HEIGHT - ROOM.bottom);
  if (over > 0) {
    for (let place = sorted.length - 1; place >= 0; place--) {
      const most = place === sorted.length - 1 ? HEIGHT - ROOM.bottom : sorted[place + 1].y - 13;
      sorted[place].y = Math.min(sorted[place].y, most);
    }
  }
  return sorted;
}
