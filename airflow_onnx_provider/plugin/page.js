// SPDX-License-Identifier: Apache-2.0
// The page works without this. Inside Airflow it is framed: the frame may not lead the window elsewhere by itself, and
// Airflow's own switch between light and dark does not reach it.
const framed = () => {
  try {
    return window.parent !== window && window.parent.document.body ? window.parent.document : null;
  } catch {
    return null; // another origin's frame
  }
};

const airflow = framed();

const follow = () => {
  const dark = airflow.documentElement.classList.contains("dark");
  document.documentElement.style.colorScheme = dark ? "dark" : "light";
  for (const sheet of document.styleSheets) {
    for (const rule of sheet.cssRules) {
      if (rule instanceof CSSMediaRule && (rule.asTheme || rule.conditionText.includes("prefers-color-scheme"))) {
        rule.asTheme = true;
        rule.media.mediaText = dark ? "all" : "not all";
      }
    }
  }
};

const leave = (event) => {
  const link = event.target.closest("a[data-airflow]");
  if (link === null || event.button > 1) {
    return;
  }
  event.preventDefault();
  const out = airflow.createElement("a");
  out.href = link.href;
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button === 1) {
    out.target = "_blank";
    out.rel = "noopener";
  }
  airflow.body.append(out);
  out.click();
  out.remove();
};

if (airflow !== null) {
  const themes = airflow.documentElement.classList;
  if (themes.contains("dark") || themes.contains("light")) {
    follow();
    new MutationObserver(follow).observe(airflow.documentElement, { attributeFilter: ["class"] });
  }
  document.addEventListener("click", leave);
  document.addEventListener("auxclick", leave);
}
