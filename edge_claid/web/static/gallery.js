// The gallery browser.

import { card } from "./cards.js";
import { $, ask, query } from "./page.js";

const PAGE = 24;
let next = null;
let listed = 0;

// Lists from the newest image on, or more of them; false where the server does not say.
export async function list(anew) {
  const number = ++listed;
  const text = $("filter").value.trim();
  // Listed anew, it stays as long as it was.
  const limit = anew ? Math.min(200, Math.max(PAGE, $("images").children.length)) : PAGE;
  let page;
  try {
    page = await ask(`/api/images${query({ text, before: anew ? null : next, limit })}`);
  } catch (error) {
    $("gallery-empty").hidden = false;
    $("gallery-empty").textContent = error.message;
    return false;
  }
  if (number !== listed) return true;
  const cards = page.images.map((image) => card(image));
  if (anew) keepingFocus(() => $("images").replaceChildren(...cards));
  else $("images").append(...cards);
  next = page.next;
  $("more").hidden = next === null;
  const none = !$("images").children.length;
  $("gallery-empty").hidden = !none;
  $("gallery-empty").textContent = text
    ? `Nothing here is called “${text}”.`
    : "Nothing is enrolled yet. Draw a box around a thing, name it and enrol it; or on the command line: edge-claid enroll FOLDER.";
  return true;
}

function keepingFocus(change) {
  const card = document.activeElement.closest("#images .card");
  const place = card && [...card.querySelectorAll("button")].indexOf(document.activeElement);
  change();
  if (card) document.querySelector(`#images [data-image="${card.dataset.image}"]`)?.querySelectorAll("button")[place]?.focus();
}

$("more").addEventListener("click", () => list(false));
$("filter").addEventListener("input", () => list(true));
