// A template of ours opens where its note is, at 100 %. Newer front ends (1.49) fit the whole of a template into the view, which nobody can read.
import { app } from "../../scripts/app.js";

app.registerExtension({
  name: "pave.view",
  afterConfigureGraph() {
    const view = app.graph.extra?.pave_view;
    if (!view || !app.canvas) return;
    delete app.graph.extra.pave_view; // once: what a person saves opens where they left it
    app.canvas.ds.scale = view.scale;
    app.canvas.ds.offset = [...view.offset];
    app.canvas.setDirty(true, true);
  },
});
