// The gallery browser.

import { card } from "./cards.js";
import { $, ask, query } from "./page.js";

let next = null;
let listed = 0;

export async function list(anew) {
  const number = ++listed;
  const text = $("filter").value.trim();
  let page;
  try {
    page = await ask(`/api/images${query({ text, before: anew ? null : next, limit: 24 })}`);
  } catch (error) {
    $("gallery-empty").hidden = false;
    $("gallery-empty").textContent = error.message;
    return;
  }
  if (number !== listed) return;
  const cards = page.images.map((image) => card(image));
  if (anew) $("images").replaceChildren(...cards);
  else $("images").append(...cards);
  next = page.next;
  $("more").hidden = next === null;
  const none = !$("images").children.length;
  $("gallery-empty").hidden = !none;
  $("gallery-empty").textContent = text
    ? `Nothing here is called “${text}”.`
    : "Nothing is enrolled yet. Draw a box around a thing, name it and enrol it; or on the command line: edge-claid enroll FOLDER.";
}

$("more").addEventListener("click", () => list(false));
$("filter").addEventListener("input", () => list(true));
