// Colours for what is drawn on a canvas, which knows no CSS variables.

// Neighbours differ in lightness as well as in hue (after Okabe and Ito), and all stand out from the ground.
const SERIES = {
  dark: ["#56b4e9", "#e69f00", "#2fc79a", "#e58bc0", "#f0e442", "#ff8a5b", "#b9b9b9"],
  light: ["#0072b2", "#c25400", "#00805c", "#a3437f", "#6b5b00", "#4b3fa0", "#666666"],
};

// Whatever the way in which a style names its colour.
function channels(colour) {
  const context = new OffscreenCanvas(1, 1).getContext("2d");
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data;
}

// Dark or light by the colour of the text, so that every palette of the host is met.
export function themeOf(element) {
  const style = getComputedStyle(element);
  const [r, g, b] = channels(style.color);
  const dark = 0.299 * r + 0.587 * g + 0.114 * b > 128;
  const faint = (alpha) => `rgba(${r}, ${g}, ${b}, ${alpha})`;
  return { text: faint(0.75), line: faint(0.35), grid: faint(0.1), series: SERIES[dark ? "dark" : "light"] };
}

// Calls back when the host changes its palette: it writes that into the style or class of one of these two.
export function onTheme(changed) {
  const observer = new MutationObserver(changed);
  for (const element of [document.documentElement, document.body]) {
    observer.observe(element, { attributes: true, attributeFilter: ["style", "class"] });
  }
  return () => observer.disconnect();
}
