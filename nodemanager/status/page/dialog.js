// Questions that have to be answered before something is done that cannot be undone.

import { h, show } from "./dom.js";
import { button } from "./parts.js";

const MAX_REASON = 200;

/** Ask whether, and why; null when it is not to be done. */
export function askReason(title, words, action) {
  const dialog = document.getElementById("dialog");
  return new Promise((resolve) => {
    let reason = null;
    const answer = (event) => {
      event.preventDefault();
      reason = new FormData(event.target).get("reason").trim();
      dialog.close();
    };
    show(
      dialog,
      h(
        "form",
        { onsubmit: answer, key: `${title} ${Date.now()}` },
        h("h2", { id: "dialog-title" }, title),
        h("p", null, words),
        h("label", { for: "reason" }, "Why, for the log"),
        h("input", {
          id: "reason",
          name: "reason",
          maxlength: String(MAX_REASON),
          required: true,
          autocomplete: "off",
          autofocus: true,
        }),
        h(
          "div",
          { class: "buttons" },
          button("Cancel", () => dialog.close()),
          h("button", { type: "submit", class: "danger" }, action),
        ),
      ),
    );
    dialog.onclose = () => resolve(reason);
    dialog.showModal();
  });
}
