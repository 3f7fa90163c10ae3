// What moves the arm: keys, pads (mouse and touch) and a gamepad, added up and sent many times a second.

import { el, kbd } from "./dom.js";

const TICK_MS = 33;
const SOONEST_MS = 8;
const ANSWER_MS = 500; // the view tells by then what became of the gripper's button: what comes late is dropped
const PAIRS = [["w", "s"], ["a", "d"], ["r", "f"], ["u", "o"], ["i", "k"], ["j", "l"]];
const TWIST = ["x", "y", "z", "roll", "pitch", "yaw"];
// The Gamepad API's standard mapping, laid out as for a pad on the recorder itself (capture/devices/layouts/xbox.yaml).
const STICKS = { x: [1, -1], y: [0, -1], pitch: [3, -1], yaw: [2, -1] };
const PAIRED = { z: [7, 6], roll: [15, 14] };
const PAD_WISHES = {
  1: "failure", 2: "undo", 3: "success", 5: "intervene", 8: "stop", 9: "start", 11: "release", 12: "keep", 13: "drop",
};
const PAD_GRIPPER = 0;
const PAD_HOLD = 4;
const PAD_REST = 0.2;

const clip = (value) => Math.max(-1, Math.min(1, value));

export class Input {
  // `wish(name)` is called for gamepad buttons. `controls()` says whether this page is the one that is listened to, and
  // `mayMove()` whether what is pressed moves the arm now; a page in control that moves nothing says so all the time.
  constructor({ link, wish, controls, mayMove }) {
    Object.assign(this, { link, wish, controls, mayMove });
    this.labels = [];
    this.keys = new Map();
    this.down = new Set();
    this.pads = new Map();
    this.pressed = new Set();
    this.gripper = null; // what this page asked for last in this take, m
    this.grippedAt = 0;
    this.gripperAsked = null; // what the arm is asked for, by whoever drives, as of the latest view, m
    this.asked = null; // what is still to be sent, once: repeated, it would reach into the next take
    this.opening = null;
    this.widest = 0;
    this.sentAt = 0;
    setInterval(() => this.send(), TICK_MS);
    for (const end of ["blur", "pagehide"]) window.addEventListener(end, () => this.letGo());
    document.addEventListener("visibilitychange", () => this.letGo());
  }

  use(labels) {
    this.labels = labels.filter((label) => label !== "gripper");
    this.hasGripper = labels.includes("gripper");
    this.twist = this.labels.some((label) => TWIST.includes(label));
    this.keys.clear();
    this.labels.forEach((label, place) => {
      const pair = PAIRS[this.twist ? TWIST.indexOf(label) : place];
      if (!pair) return;
      this.keys.set(pair[0], [label, 1]);
      this.keys.set(pair[1], [label, -1]);
    });
  }

  keysOf(label) {
    return [...this.keys].filter(([, [moved]]) => moved === label).map(([key]) => key);
  }

  see(view) {
    this.opening = view.gripper_m;
    this.gripperAsked = view.gripper_asked_m;
    this.widest = view.gripper_max_m ?? 0;
    this.recording = view.state === "recording";
    if (this.recording) return;
    this.gripper = this.asked = null;
    this.rested = false; // a stick that is held over when a take begins moves nothing before it was let go
  }

  press(key) {
    if (key === " " && this.hasGripper) return this.toggleGripper();
    if (!this.keys.has(key)) return false;
    this.down.add(key);
    this.soon();
    return true;
  }

  lift(key) {
    if (this.down.delete(key)) this.soon();
  }

  // A pad or hold button named `name` asks for {label: deflection}; null lets it go.
  pad(name, axes) {
    if (axes) this.pads.set(name, axes);
    else this.pads.delete(name);
    this.soon();
  }

  toggleGripper() {
    if (!this.widest || !this.recording || !this.mayMove()) return true;
    const own = performance.now() - this.grippedAt < ANSWER_MS ? this.gripper : null;
    const now = own ?? this.gripperAsked ?? this.opening ?? this.widest;
    this.grippedAt = performance.now();
    this.gripper = this.asked = now > this.widest / 2 ? 0 : this.widest;
    this.soon();
    return true;
  }

  letGo() {
    this.down.clear();
    this.pads.clear();
    this.send();
  }

  soon() {
    if (performance.now() - this.sentAt >= SOONEST_MS) this.send();
  }

  send() {
    // Nobody looks at a page that is hidden: after a last word, which lets go of everything, the session takes its
    // silence for a page that is lost. A browser would otherwise call us once a second, and a policy would drive on.
    const silent = document.hidden && this.hidden;
    this.hidden = document.hidden;
    if (silent) return;
    const stick = this.readGamepad();
    if (!this.controls()) return;
    this.sentAt = performance.now();
    // The server tells by it what comes late: a clock that runs on evenly, and begins anew with the page.
    const said_s = this.sentAt / 1000;
    if (!this.mayMove()) return this.link.say({ do: "input", axes: {}, gripper: null, moving: false, said_s });
    const axes = {};
    const add = (label, value) => {
      if (value && this.labels.includes(label)) axes[label] = clip((axes[label] ?? 0) + value);
    };
    for (const key of this.down) add(...this.keys.get(key));
    for (const pad of this.pads.values()) for (const [label, value] of Object.entries(pad)) add(label, value);
    for (const [label, value] of Object.entries(stick.axes)) add(label, value);
    const moving = this.down.size > 0 || this.pads.size > 0 || stick.hold;
    this.link.say({ do: "input", axes, gripper: this.asked, moving, said_s });
    this.asked = null;
  }

  readGamepad() {
    // Of any other mapping nobody knows which axis is a trigger that rests at its end.
    const all = [...(navigator.getGamepads?.() ?? [])].filter((one) => one?.connected);
    const pads = all.filter((one) => one.mapping === "standard");
    this.strange = all.length > 0 && pads.length === 0;
    const pad = pads.find((one) => one.index === this.padIndex) ?? pads[0];
    if (pad?.index !== this.padIndex) this.rested = false; // another pad moves the arm once its sticks were let go
    this.padIndex = pad?.index;
    this.gamepad = pad?.id ?? "";
    if (!pad) return { axes: {}, hold: false };
    const down = (index) => Boolean(pad.buttons[index]?.pressed);
    const axes = {};
    for (const [label, [axis, sign]] of Object.entries(STICKS)) axes[label] = sign * (pad.axes[axis] ?? 0);
    this.rested ||= Object.values(axes).every((value) => Math.abs(value) < PAD_REST);
    const value = (index) => pad.buttons[index]?.value ?? 0;
    for (const [label, [more, less]] of Object.entries(PAIRED)) axes[label] = value(more) - value(less);
    const pressed = new Set(pad.buttons.flatMap((_, index) => (down(index) ? [index] : [])));
    const fresh = [...pressed].filter((index) => !this.pressed.has(index));
    this.pressed = pressed; // before acting: what is pressed sends, and sending reads the pad again
    for (const index of fresh) {
      if (index === PAD_GRIPPER) this.toggleGripper();
      else if (PAD_WISHES[index]) this.wish(PAD_WISHES[index]);
    }
    return { axes: this.rested ? axes : {}, hold: down(PAD_HOLD) };
  }
}

// Pads that are dragged and buttons that are held, as elements of `place`.
export function buildPads(place, input) {
  place.replaceChildren();
  const has = (label) => input.labels.includes(label);
  const keys = (label) => input.keysOf(label).join(" ");
  if (input.twist) {
    if (has("x") || has("y")) place.append(stickPad("move", "y", "x", `${keys("x")} ${keys("y")}`, input));
    if (has("z")) place.append(stickPad("height", null, "z", keys("z"), input));
    if (has("yaw")) place.append(stickPad("turn", "yaw", null, keys("yaw"), input));
    if (has("roll") || has("pitch")) place.append(stickPad("tilt", "roll", "pitch", `${keys("pitch")} ${keys("roll")}`, input));
  } else {
    for (const label of input.labels) place.append(holdRow(label, input));
  }
  if (input.hasGripper) place.append(gripperButton(input));
}

function stickPad(name, sideways, upward, keys, input) {
  const knob = el("i");
  const kind = sideways && upward ? "both" : sideways ? "wide" : "tall";
  const pad = el("div", { className: `pad ${kind}` }, knob, el("span", {}, el("b", {}, name), kbd(keys)));
  pad.dataset.pad = name;
  let held = null;
  const drag = (event) => {
    if (event.pointerId !== held) return;
    const box = pad.getBoundingClientRect();
    const across = clip(((event.clientX - box.left) / box.width) * 2 - 1);
    const up = clip(1 - ((event.clientY - box.top) / box.height) * 2);
    knob.style.left = `${sideways ? (across + 1) * 50 : 50}%`;
    knob.style.top = `${upward ? (1 - up) * 50 : 50}%`;
    // To the left is positive: y and yaw grow to the left of a person behind the arm.
    input.pad(name, { ...(sideways && { [sideways]: -across }), ...(upward && { [upward]: up }) });
  };
  const end = (event) => {
    if (event.pointerId !== held) return;
    held = null;
    pad.classList.remove("held");
    knob.removeAttribute("style");
    input.pad(name, null);
  };
  pad.addEventListener("pointerdown", (event) => {
    if (held !== null) return;
    held = event.pointerId;
    pad.setPointerCapture(held);
    pad.classList.add("held");
    drag(event);
  });
  pad.addEventListener("pointermove", drag);
  for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) pad.addEventListener(type, end);
  return pad;
}

function holdRow(label, input) {
  const row = el("div", { className: "hold" });
  const [more, less] = input.keysOf(label);
  for (const [value, sign, key] of [[-1, "−", less], [1, "+", more]]) {
    const button = el("button", { type: "button" }, `${label} ${sign} `, key ? kbd(key) : "");
    const end = () => input.pad(`${label}${sign}`, null);
    button.addEventListener("pointerdown", (event) => {
      button.setPointerCapture(event.pointerId);
      input.pad(`${label}${sign}`, { [label]: value });
    });
    for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) button.addEventListener(type, end);
    row.append(button);
  }
  return row;
}

function gripperButton(input) {
  const button = el("button", { type: "button", id: "gripper" }, el("b", {}, "gripper"), kbd("space"));
  button.setAttribute("aria-keyshortcuts", "Space");
  button.addEventListener("click", () => input.toggleGripper());
  return button;
}
