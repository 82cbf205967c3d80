// The page of `edge-claid serve`: one stage that shows the live picture or an opened one, a box on it, and what the
// gallery answers. Boxes are [x0, y0, x1, y1] in pixels of the picture, everywhere but in the style of elements.

import { list } from "./gallery.js";
import { tellPill, tellState, watch } from "./live.js";
import { sleep } from "./page.js";
import { stage } from "./stage.js";

async function begin() {
  try {
    await tellState();
  } catch {
    tellPill("gone");
    await sleep(2000);
    return begin();
  }
  list(true);
  if (stage.live) watch();
  for (;;) {
    await sleep(5000);
    if (!document.hidden) await tellState().catch(() => tellPill("gone"));
  }
}

begin();
