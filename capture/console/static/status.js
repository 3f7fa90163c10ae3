// The banner, the streams, the findings and the arm: what the session says of itself, by word, shape and colour.

import { $, el, put, reshape, shape } from "./dom.js";

const WORDS = { idle: "idle", ready: "ready", recording: "recording", review: "review", saving: "saving" };
const NEAR_LIMIT = 0.05;

export function situation(view) {
  if (view.device_lost && view.state !== "review" && view.state !== "saving") return ["lost", "device lost"];
  if (view.countdown_s > 0) return ["countdown", "get ready"];
  if (view.finished) return ["done", "done"];
  return [view.state, WORDS[view.state]];
}

export function showBanner(view, desk) {
  const [kind, word] = situation(view);
  document.body.dataset.state = kind;
  reshape($("banner").querySelector("svg"), `shape-${kind}`);
  reshape($("strip").querySelector("svg"), `shape-${kind}`);
  put($("state"), word);
  put($("strip").querySelector("span"), word);
  const taking = view.state === "recording" || view.state === "review";
  put($("clock"), taking ? seconds(view.elapsed_s) : "");
  put($("numbers"), taking ? taken(view) : "");
  put($("aim"), view.aim ? `${view.episodes} of ${view.aim} episodes` : counted(view.episodes));
  put($("prompt"), desk.controlling ? view.prompt : `Watching. ${view.prompt}`);
  put($("announce"), `${word}. ${view.prompt}`.replace(/[\d.]+ s/, "seconds"));
  put($("where"), [`${view.task} on ${view.robot}`, view.operator, name(view.dataset)].filter(Boolean).join(" · "));
  document.title = `${word} · Understudy`;
  const count = $("countdown");
  count.hidden = !(view.countdown_s > 0);
  put(count, view.countdown_s > 0 ? String(Math.ceil(view.countdown_s)) : "");
}

export const counted = (number) => `${number} episode${number === 1 ? "" : "s"}`;
const name = (path) => path.split("/").filter(Boolean).pop() ?? "";
const seconds = (value) => `${value.toFixed(1)} s`;

function taken(view) {
  const verdict = { true: "success", false: "no success", null: "not judged" }[String(view.success)];
  const by = view.marked === null ? "" : ", your word";
  const parts = [`${view.steps} steps`, `at most ${Math.round(view.max_s)} s`, `${verdict}${by}`];
  if (view.intervening) parts.push("you have taken over");
  return parts.join(" · ");
}

export function showFindings(view) {
  $("findings").hidden = view.findings.length === 0;
  fill($("findings").querySelector("ul"), view.findings, (finding) => {
    const failing = finding.severity === "failure";
    const mark = shape(failing ? "light-missing" : "light-stale");
    return el("li", { className: finding.severity }, mark, el("b", {}, failing ? "fails" : "warning"), ` ${finding.text}`);
  });
}

export function showLights(view) {
  $("lights").hidden = view.lights.length === 0;
  fill($("lights").querySelector("ul"), view.lights, (light) => {
    const rate = light.expected_hz ? `${hz(light.rate_hz)}/${hz(light.expected_hz)} Hz` : `${hz(light.rate_hz)} Hz`;
    const facts = [rate];
    if (light.age_s !== null) facts.push(`age ${ms(light.age_s)}`);
    if (light.longest_gap_s) facts.push(`gap ${ms(light.longest_gap_s)}`);
    if (light.lost) facts.push(`${light.lost} lost`);
    return el("li", { className: light.state },
      shape(`light-${light.state}`), el("b", {}, light.name), el("em", {}, light.state),
      el("span", {}, light.state === "alive" ? facts.join(" · ") : light.why || facts.join(" · ")));
  });
}

// Never "-0.00", which flickers.
const fixed = (value, digits) => value.toFixed(digits).replace(/^-(0\.0*)$/, "$1");
const hz = (value) => (value >= 100 ? value.toFixed(0) : value.toFixed(1));
const ms = (value) => (value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`);

// Renews a list only where its content changed, so that a screen reader stays where it is.
function fill(list, items, make) {
  const said = JSON.stringify(items);
  if (list.dataset.said === said) return;
  list.dataset.said = said;
  list.replaceChildren(...items.map(make));
}

export class Arm {
  constructor(place) {
    this.place = place;
    this.rows = new Map();
  }

  show(view) {
    view.joint_position.forEach((value, index) => {
      const [lower, upper] = [view.joint_lower[index], view.joint_upper[index]];
      const label = (view.joint_names[index] ?? `joint ${index + 1}`).replace(/^.*?(joint_?)?(\d+)$/, "joint $2");
      this.row(label, value, lower, upper, `${fixed(value, 2)} rad`);
    });
    if (view.gripper_m !== null && view.gripper_max_m) {
      this.row("gripper", view.gripper_m, 0, view.gripper_max_m, `${(view.gripper_m * 1000).toFixed(0)} mm open`, false);
    }
    if (view.tool_position) this.tool(view.tool_position);
  }

  row(label, value, lower, upper, words, limits = true) {
    const bounded = lower !== null && upper !== null && upper > lower;
    const share = bounded ? Math.max(0, Math.min(1, (value - lower) / (upper - lower))) : 0.5;
    const near = limits && bounded && (share < NEAR_LIMIT || share > 1 - NEAR_LIMIT);
    let row = this.rows.get(label);
    if (!row) {
      const mark = el("i");
      const bar = el("div", { className: "track", role: "meter", "aria-label": label }, mark);
      const said = el("span");
      this.place.append(el("div", { className: "joint" }, el("b", {}, label), bar, said));
      row = { mark, bar, said };
      this.rows.set(label, row);
    }
    row.mark.style.left = `${share * 100}%`;
    row.bar.classList.toggle("near", near);
    row.bar.setAttribute("aria-valuemin", bounded ? lower.toFixed(2) : "0");
    row.bar.setAttribute("aria-valuemax", bounded ? upper.toFixed(2) : "0");
    row.bar.setAttribute("aria-valuenow", value.toFixed(2));
    row.bar.setAttribute("aria-valuetext", near ? `${words}, near its limit` : words);
    put(row.said, near ? `${words} ▲limit` : words);
  }

  tool([x, y, z]) {
    if (!this.told) {
      this.told = el("p", { id: "tool" });
      this.place.append(this.told);
    }
    put(this.told, `tool  x ${fixed(x, 3)}  y ${fixed(y, 3)}  z ${fixed(z, 3)} m`);
  }
}
