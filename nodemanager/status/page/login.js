// The token is asked for once; the browser keeps a cookie for it that no script can read.

import { h } from "./dom.js";
import { logIn } from "./store.js";

let trouble = "";

export function login(redraw) {
  const submit = async (event) => {
    event.preventDefault();
    const field = event.target.elements.token;
    try {
      trouble = "";
      await logIn(field.value);
    } catch (error) {
      trouble = error.message;
      field.value = "";
      field.focus();
      redraw();
    }
  };
  return h(
    "form",
    { class: "login", onsubmit: submit, key: "login" },
    h("h1", null, "Log in"),
    h(
      "p",
      null,
      "What this daemon is doing is told to those who have its management token: ",
      h("code", null, "[Manage] ManagementToken"),
      " of the config file.",
    ),
    // For password managers, which want to know whose it is.
    h("input", { name: "username", autocomplete: "username", value: "operator", hidden: true }),
    h("label", { for: "token" }, "Management token"),
    h("input", {
      id: "token",
      name: "token",
      type: "password",
      required: true,
      autocomplete: "current-password",
      autofocus: true,
      "aria-describedby": trouble ? "login-trouble" : null,
    }),
    trouble ? h("p", { id: "login-trouble", class: "note bad", role: "alert" }, trouble) : "",
    h("button", { type: "submit", class: "primary" }, "Log in"),
  );
}
