// $ finds an element by its id.
export function $(id) {
  return document.getElementById(id);
}
