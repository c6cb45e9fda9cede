// Scroll the page to its top when another lesson begins.
let shown = null;

export default function ({ data }) {
  if (shown !== null && shown !== data.lesson) document.querySelector('[data-testid=stMain]')?.scrollTo(0, 0);
  shown = data.lesson;
}
