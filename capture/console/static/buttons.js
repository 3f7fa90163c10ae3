// The session's buttons: one a wish, in fixed places, each with its key.

import { el, kbd } from "./dom.js";

export const WISHES = [
  { wish: "prepare", word: "Prepare", key: "p", help: "bring the arm and the scene to the start of a take" },
  { wish: "start", word: "Start", key: "Enter", help: "begin to record" },
  { wish: "stop", word: "Stop", key: ".", help: "end the take and look at it" },
  { wish: "keep", word: "Keep", key: "y", help: "put the take into the dataset" },
  { wish: "drop", word: "Drop", key: "n", help: "put the take into the trash" },
  { wish: "undo", word: "Undo", key: "z", help: "take back the take that was kept last" },
  { wish: "success", word: "Success", key: "g", help: "mark the take as a success" },
  { wish: "failure", word: "Failure", key: "b", help: "mark the take as a failure" },
  { wish: "redo", word: "Redo", key: "Z", help: "bring back the take that undo took" },
  { wish: "unmark", word: "Unmark", key: "m", help: "let the task judge the take" },
  { wish: "note", word: "Note", key: "t", help: "add words to the take" },
  { wish: "intervene", word: "Take over", key: "v", help: "mark what follows as an intervention" },
  { wish: "hold", word: "Hold the arm", key: "h", help: "the arm stops now; a take that is being recorded ends" },
];

// What the operator most likely wants next, by state.
const NEXT = { idle: "prepare", ready: "start", recording: "stop", review: "keep" };

const shift = (key) => (key === "Z" ? "Shift+Z" : key);

export class Buttons {
  constructor(place, wish) {
    this.made = new Map();
    for (const one of WISHES) {
      const word = el("b", {}, one.word);
      const button = el("button", { type: "button", className: `wish ${one.wish}`, title: one.help }, word, kbd(shift(one.key)));
      button.dataset.wish = one.wish;
      button.setAttribute("aria-keyshortcuts", shift(one.key));
      button.addEventListener("click", (event) => {
        // A click by hand leaves no focus behind, where Space and Enter would press it again.
        if (event.detail) button.blur();
        wish(button.dataset.wish);
      });
      this.made.set(one.wish, { button, word });
      place.append(button);
    }
  }

  // Whoever only watches may still stop the arm.
  show(view, controls) {
    const possible = new Set(view.possible);
    const hold = this.made.get("hold");
    const ours = view.moved_by === "session";
    hold.word.textContent = ours ? "Hold the arm" : "End the take";
    hold.button.title = ours ? "the arm stops now; a take that is being recorded ends" : "the take ends; the arm is not ours to hold";
    const other = this.made.get("intervene");
    other.button.dataset.wish = view.intervening ? "release" : "intervene";
    other.word.textContent = view.intervening ? "Hand back" : "Take over";
    for (const { button } of this.made.values()) {
      const wish = button.dataset.wish;
      // Not `disabled`: a button that is disabled under the focus swallows the keyboard.
      button.setAttribute("aria-disabled", String(!possible.has(wish) || !(controls || wish === "hold")));
      button.classList.toggle("next", NEXT[view.state] === wish && !view.finished && !(view.countdown_s > 0));
    }
    const pressed = { success: view.marked === true, failure: view.marked === false, intervene: view.intervening };
    for (const [wish, on] of Object.entries(pressed)) {
      this.made.get(wish).button.setAttribute("aria-pressed", String(on));
    }
  }
}

// What a button or key means now: start prepares first where nothing is prepared, and taking over twice hands back.
export function meant(wish, view) {
  if (wish === "intervene" && view?.intervening) return "release";
  if (wish === "start" && view?.state === "idle") return "prepare";
  return wish;
}

// The wish of a key, in the words of the session; null for any other key.
export function wishOf(event) {
  const key = event.key.length === 1 && !event.shiftKey ? event.key.toLowerCase() : event.key;
  return WISHES.find((one) => one.key === key)?.wish ?? null;
}
