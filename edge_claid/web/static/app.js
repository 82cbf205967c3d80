// The page of `edge-claid serve`: one stage that shows the live picture or an opened one, a box on it, and what the
// gallery answers. Boxes are [x0, y0, x1, y1] in pixels of the picture, everywhere but in the style of elements.
// Modules: page.js is used by all; stage.js and cards.js use nothing else; answers.js, live.js and gallery.js use those;
// what one of them does for another goes through here.

import { search } from "./answers.js";
import { list } from "./gallery.js";
import { tellPill, tellState, watch } from "./live.js";
import { on, sleep } from "./page.js";
import { stage } from "./stage.js";

let listed = null; // version of the gallery that is listed

async function refresh() {
  try {
    const { gallery } = await tellState();
    // What was enrolled or removed elsewhere is seen here too.
    if (gallery.version !== listed && (await list(true))) listed = gallery.version;
    return true;
  } catch {
    tellPill("gone");
    listed = null;
    return false;
  }
}

async function begin() {
  while (!(await refresh())) await sleep(2000);
  if (stage.live) watch();
  for (;;) {
    await sleep(5000);
    if (!document.hidden) await refresh();
  }
}

on("asked", search);
on("changed", refresh);
begin();
