// All dispatchers of the cluster, as the API has them.

import { h } from "./dom.js";
import { badge, note, section } from "./parts.js";
import { now, state } from "./store.js";
import { table } from "./table.js";
import { duration, seconds } from "./words.js";

const COLUMNS = [
  ["Dispatcher"],
  ["State"],
  ["Scheduler"],
  ["Last ping", "number"],
  ["Last turn", "number"],
  ["Epoch", "number"],
  ["", "wide"],
];

export function dispatchers() {
  const told = state.dispatchers;
  if (!told)
    return section(
      "dispatchers",
      "Dispatchers",
      h("p", { class: "muted" }, "Asking the API\u2026"),
    );
  const mine = state.status.dispatcher?.uuid;
  return section(
    "dispatchers",
    "Dispatchers of this cluster",
    told.trouble ? note(`The API cannot be asked: ${told.trouble}`, "warn") : "",
    told.items.length
      ? table(
          "Dispatchers",
          COLUMNS,
          told.items.map((each) => row(each, each.uuid === mine)),
        )
      : "",
    h(
      "p",
      { class: "muted small" },
      "A dispatcher that does not ping in time is lost for good: its containers are tried again by others.",
    ),
  );
}

function row(each, isMine) {
  return {
    key: each.uuid,
    cells: [
      [
        h("strong", null, each.name),
        " ",
        isMine ? badge("this one", "good") : "",
        h("small", { class: "uuid" }, each.uuid),
      ],
      [badge(each.state), each.paused ? [" ", badge("paused", "warn")] : ""],
      each.scheduler,
      ago(each.last_ping_at),
      ago(each.last_turn_at),
      String(each.epoch),
      each.paused ? `claims nothing: ${each.paused}` : "",
    ],
  };
}

function ago(at) {
  return at ? h("span", { title: at }, `${duration(now() - seconds(at))} ago`) : "never";
}
