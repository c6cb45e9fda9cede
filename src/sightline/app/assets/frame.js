// A whole page of its own in a frame that may do nothing: no scripts, no forms, no place of this page.
export default ({ parentElement, data }) => {
  const frame = parentElement.querySelector('iframe');
  const url = URL.createObjectURL(new Blob([data.html], { type: 'text/html' }));
  frame.title = data.title;
  frame.src = url;
  return () => URL.revokeObjectURL(url);
};
