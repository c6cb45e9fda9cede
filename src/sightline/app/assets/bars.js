// The best classes as bars: each is a button that chooses the class.
export default function ({ data, parentElement, setTriggerValue }) {
  const list = parentElement.querySelector('.bars');
  list.replaceChildren(...data.rows.map((row) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.setAttribute('aria-pressed', String(row.index === data.chosen));
    button.title = `Explain “${row.label}”`;
    button.onclick = () => setTriggerValue('picked', row.index);
    const fill = document.createElement('span');
    fill.className = 'fill';
    fill.style.width = `${100 * row.share}%`;
    const parts = [['name', row.label], ['id', row.id], ['share', row.said]].map(([name, text]) => {
      const part = document.createElement('span');
      part.className = name;
      part.textContent = text;
      return part;
    });
    button.append(fill, ...parts);
    const item = document.createElement('li');
    item.append(button);
    return item;
  }));
}
