// For tests: reads the XML that our pictures are written in, and refuses what is not well-formed.

export interface Element {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly Element[];
  /** Text directly inside, references resolved. */
  readonly text: string;
}

const references: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"' };

function resolved(text: string): string {
  return text.replace(/&(\w*);?/g, (whole, name: string) => {
    if (!whole.endsWith(';') || references[name] === undefined) throw new Error(`no reference: ${whole}`);
    return references[name];
  });
}

/** The root of a document without comments, CDATA and declarations. Throws where the text is not well-formed. */
export function parseXml(text: string): Element {
  const open: { name: string; attributes: Record<string, string>; children: Element[]; text: string }[] = [
    { name: '', attributes: {}, children: [], text: '' },
  ];
  const tag = /<(\/?)([A-Za-z][\w:-]*)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>|<|[^<]+/g;
  for (const [whole, slash, name, attributes, empty] of text.matchAll(tag)) {
    const top = open[open.length - 1];
    if (name === undefined) {
      if (whole === '<') throw new Error('a < that begins no tag');
      top.text += resolved(whole);
    } else if (slash === '/') {
      if (top.name !== name) throw new Error(`</${name}> ends <${top.name}>`);
      open.pop();
      open[open.length - 1].children.push(top);
    } else {
      const element = { name, attributes: {} as Record<string, string>, children: [], text: '' };
      for (const [, key, value] of (attributes ?? '').matchAll(/([\w:-]+)="([^"]*)"/g)) {
        if (key in element.attributes) throw new Error(`<${name}> has ${key} twice`);
        element.attributes[key] = resolved(value);
      }
      if (empty === '/') top.children.push(element);
      else open.push(element);
    }
  }
  const [document] = open;
  if (open.length !== 1) throw new Error(`<${open[open.length - 1].name}> has no end`);
  if (document.children.length !== 1 || document.text.trim() !== '') throw new Error('not one root');
  return document.children[0];
}

export const textOf = (e: Element): string => e.text;
