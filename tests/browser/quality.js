// What a page can be measured by, from inside it. Colours are computed ones; what lies behind a text is found by walking up
// its ancestors. `quality` is put on the window by the tests.
window.quality = (() => {
  const SHOWN = { checkOpacity: true, checkVisibilityCSS: true };

  // [r, g, b, alpha] of a computed colour; the first one of a shadow. null for none.
  function colour(css) {
    const found = /rgba?\(([^)]+)\)|color\(srgb ([^)]+)\)/.exec(css);
    if (!found) return null;
    const parts = (found[1] ?? found[2]).split(/[ ,/]+/).map(Number);
    return [...parts.slice(0, 3).map((part) => (found[1] ? part : part * 255)), parts[3] ?? 1];
  }

  function over(above, below) {
    return [0, 1, 2].map((i) => above[i] * above[3] + below[i] * (1 - above[3])).concat(1);
  }

  function luminance(rgb) {
    const [r, g, b] = rgb.map((part) => (part /= 255) && (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }

  function ratio(one, other) {
    const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  }

  // The colour behind an element's content; null where a picture or a gradient lies there.
  function behind(element) {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at), paint = colour(style.backgroundColor);
      if (style.backgroundImage !== "none") return null;
      if (paint?.[3] > 0) layers.push(paint);
      if (paint?.[3] === 1 || at.matches(":modal, :popover-open")) break;
    }
    return layers.reduceRight((below, above) => over(above, below), colour(getComputedStyle(document.body).backgroundColor));
  }

  function named(element) {
    const own = (e) => (e.id && !/^(component|html|text|range|c\d)/.test(e.id) ? `#${e.id}` : e.tagName.toLowerCase() +
      [...e.classList].filter((name) => !name.startsWith("svelte")).map((name) => `.${name}`).join(""));
    const path = [];
    for (let at = element; at && path.length < 5 && !path[0]?.startsWith("#"); at = at.parentElement) path.unshift(own(at));
    return path.join(" > ");
  }

  const root = () => document.querySelector(":modal") ?? document.body;
  const idle = (element) => element.closest(
    "script, style, template, noscript, .sr-only, :disabled, [aria-disabled=true], [aria-busy=true], [aria-hidden=true]");

  // Texts below 4.5 to 1 against what is behind them; large ones below 3 to 1. [number of texts, {selector: ratio and text}]
  function faintTexts() {
    const found = {}, walker = document.createTreeWalker(root(), NodeFilter.SHOW_TEXT);
    let count = 0;
    while (walker.nextNode()) {
      const node = walker.currentNode, element = node.parentElement;
      if (!node.textContent.trim() || !element.checkVisibility(SHOWN) || idle(element)) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      if (range.getBoundingClientRect().width < 2) continue;
      const style = getComputedStyle(element), ground = behind(element);
      const ink = colour(element instanceof SVGElement ? style.fill : style.color);
      if (!ink || !ground) continue;
      count += 1;
      let alpha = ink[3];
      for (let at = element; at; at = at.parentElement) alpha *= Number(getComputedStyle(at).opacity);
      const pixels = parseFloat(style.fontSize);
      const large = pixels >= 24 || (pixels >= 18.66 && Number(style.fontWeight) >= 700);
      const contrast = ratio(over([...ink.slice(0, 3), alpha], ground), ground);
      if (contrast < (large ? 3 : 4.5)) found[named(element)] = `${contrast.toFixed(2)}: ${node.textContent.trim().slice(0, 40)}`;
    }
    return [count, found];
  }

  // Fields whose edge, and buttons whose icon, is below 3 to 1.
  function faintControls() {
    const found = {};
    for (const element of root().querySelectorAll("input:not([type=range]), textarea, select, button")) {
      if (!element.checkVisibility(SHOWN) || element.getBoundingClientRect().width < 3 || idle(element)) continue;
      const icon = element.tagName === "BUTTON";
      if (icon && (element.textContent.trim() || !element.querySelector("svg"))) continue;
      const box = icon ? element : (element.closest(".wrap-inner")?.parentElement ?? element);
      const ground = behind(icon ? box : box.parentElement), style = getComputedStyle(box);
      const paints = icon
        ? [...box.querySelectorAll("path, circle, line, polyline, polygon, rect")].map((e) => getComputedStyle(e)).flatMap((s) => [s.stroke, s.fill])
        : [style.borderTopWidth === "0px" ? "" : style.borderTopColor, style.boxShadow, style.backgroundColor];
      const best = Math.max(0, ...paints.map(colour).filter((paint) => paint?.[3]).map((paint) => ratio(over(paint, ground), ground)));
      if (ground && best < 3) found[named(element)] = best.toFixed(2);
    }
    return found;
  }

  // Controls that say nothing of what they do: neither tooltip, nor description, nor a line of help.
  function unexplained() {
    const controls = "button, input, textarea, select, [role=tab], [role=slider], canvas[tabindex]";
    return [...root().querySelectorAll(controls)]
      .filter((e) => e.checkVisibility({ checkVisibilityCSS: true }) && !e.closest("[aria-hidden=true]") && e.getBoundingClientRect().width > 1)
      .filter((e) => !(e.closest("[title]")?.title || e.getAttribute("aria-description") || e.getAttribute("aria-label")?.length > 60 ||
        e.ariaDescribedByElements?.length || e.closest(".block")?.querySelector(".info-text")?.textContent.trim()))
      .map((e) => `${named(e)} ${e.textContent.trim().slice(0, 30)}`);
  }

  // What shows that the focused element has the focus: {where, shown}; null where nothing has it.
  function focus() {
    const element = document.activeElement;
    if (!element || element === document.body) return null;
    const outlined = (e) => {
      const style = getComputedStyle(e), ground = behind(e.parentElement), line = colour(style.outlineColor);
      if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2 || style.opacity === "0") return false;
      return !ground || ratio(over(line, ground), ground) >= 3;
    };
    return { where: named(element), shown: outlined(element) || Boolean(element.closest("label") && outlined(element.closest("label"))) };
  }

  // Where the last line of an element's texts ends.
  function lowest(element) {
    const range = document.createRange(), walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    let bottom = 0;
    while (walker.nextNode()) {
      if (!walker.currentNode.textContent.trim()) continue;
      range.selectNodeContents(walker.currentNode);
      bottom = Math.max(bottom, range.getBoundingClientRect().bottom);
    }
    return bottom;
  }

  // Texts of which a part is cut off and cannot be scrolled to: {selector: text}.
  function cutTexts() {
    const found = {}, hides = /hidden|clip/;
    for (const element of root().querySelectorAll("*")) {
      const style = getComputedStyle(element), box = element.getBoundingClientRect();
      if (!element.checkVisibility(SHOWN) || box.width < 2 || element.closest(".visually-hidden, .sr-only, [aria-hidden=true]")) continue;
      const field = element.matches("input:not([type=range])");
      if (!field && !element.innerText?.trim()) continue;
      const wide = (field || hides.test(style.overflowX)) && element.scrollWidth > element.clientWidth + 1;
      const high = hides.test(style.overflowY) && element.scrollHeight > element.clientHeight + 1 && lowest(element) > box.bottom + 1;
      if (wide || high) found[named(element)] = field ? element.value : element.innerText.trim().slice(0, 60);
    }
    return found;
  }

  return { faintTexts, faintControls, unexplained, cutTexts, focus };
})();
