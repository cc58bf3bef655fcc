// The panel in today's host: a tab of the sidebar. Three folders up, because this is /extensions/<pack>/panel/.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { openPerson } from "../pave_person.js";
import { editor } from "./editor.js";
import { mount } from "./panel.js";

let place = null;
let unmount = null;

function onEvent(listener) {
  const changed = ({ detail }) => listener(detail.name);
  const back = () => listener(null); // the server was away: what it said meanwhile is lost
  api.addEventListener("pave.run", changed);
  api.addEventListener("reconnected", back);
  return () => {
    api.removeEventListener("pave.run", changed);
    api.removeEventListener("reconnected", back);
  };
}

function onAsked(listener) {
  api.addEventListener("pave.person", listener);
  api.addEventListener("reconnected", listener);
  return () => {
    api.removeEventListener("pave.person", listener);
    api.removeEventListener("reconnected", listener);
  };
}

function destroy() {
  unmount?.();
  place = unmount = null;
}

app.registerExtension({
  name: "pave.panel",
  setup() {
    app.extensionManager.registerSidebarTab({
      id: "pave",
      icon: "pi pi-chart-line",
      title: "Pave-GRPO",
      tooltip: "Pave-GRPO: the run that trains, and all runs",
      type: "custom",
      // The host calls it again whenever it draws the sidebar, with the container that it has already given.
      render(container) {
        if (container === place) return;
        destroy();
        place = container;
        container.style.height = "100%"; // else the panel's ground ends with the list
        const fetch = (path, options) => api.fetchApi(path, options);
        unmount = mount(container, { fetch, onEvent, onAsked, enlarge: openPerson, host: editor(app) });
      },
      destroy,
    });
  },
});
