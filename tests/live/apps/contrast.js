// Every text that is seen whose contrast is less than WCAG 2.1, 1.4.3 (AA) wants: 4.5 to 1.
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const over = (top, below) => below.map((value, at) => top[at] * top[3] + value * (1 - top[3]));
  const linear = (value) => (value / 255 <= 0.04045 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = (color) => 0.2126 * linear(color[0]) + 0.7152 * linear(color[1]) + 0.0722 * linear(color[2]);
  const contrast = (element) => {
    let below = [255, 255, 255], opacity = 1;
    const chain = [];
    for (let each = element; each; each = each.parentElement) chain.unshift(getComputedStyle(each));
    for (const style of chain) {
      below = over(rgba(style.backgroundColor), below);
      opacity *= style.opacity;
    }
    const color = rgba(chain.at(-1).color);
    const [dark, light] = [luminance(over([...color.slice(0, 3), color[3] * opacity], below)), luminance(below)].sort();
    return (light + 0.05) / (dark + 0.05);
  };
  const seen = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const { data, parentElement } = texts.currentNode;
    if (data.trim() && parentElement.getClientRects().length) seen.push([data.trim(), contrast(parentElement)]);
  }
  if (seen.length < 50) throw new Error(`only ${seen.length} texts are seen`);
  return seen.filter((each) => each[1] < 4.5);
}
