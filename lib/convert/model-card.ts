/**
 * README.md of a converted model: the source's, with front matter that says it is an MLX model. Without it a model
 * with plain weights would not be known for one.
 */

/** Keys that are written anew; the others stay line by line. */
const OWN_KEYS = ['library_name', 'tags'];

/** @param readme the source's README.md, or `undefined` @param baseModel hub id the model was made from */
export function modelCard(
  readme = '',
  baseModel: string | null = null,
  task: 'text-generation' | 'image-text-to-text' = 'text-generation',
): string {
  const front = /^\ufeff?---\r?\n([\s\S]*?)^---[ \t]*(?:\r?\n|$)/m.exec(readme);
  const sections = front?.index === 0 ? topLevel(front[1] ?? '') : [];
  const body = front?.index === 0 ? readme.slice(front[0].length) : readme;
  const has = (key: string): boolean => sections.some((section) => section.key === key);
  const tags = tagsOf(sections.find(({ key }) => key === 'tags')?.text ?? '');
  const lines = sections.filter(({ key }) => !OWN_KEYS.includes(key)).map(({ text }) => text);
  if (!has('pipeline_tag')) lines.push(`pipeline_tag: ${task}\n`);
  if (baseModel !== null && !has('base_model')) {
    lines.push(`base_model: ${JSON.stringify(baseModel)}\n`);
  }
  lines.push('library_name: mlx\n', 'tags:\n');
  for (const tag of new Set([...tags, 'mlx'])) lines.push(`- ${tag}\n`);
  return `---\n${lines.join('')}---\n${body}`;
}

/** The keys of the outermost level, each with all its lines. */
function topLevel(block: string): { key: string; text: string }[] {
  const sections: { key: string; text: string }[] = [];
  for (const line of block.split(/(?<=\n)/)) {
    const key = /^([A-Za-z_][\w-]*):/.exec(line)?.[1];
    const last = sections.at(-1);
    if (key !== undefined || last === undefined) sections.push({ key: key ?? '', text: line });
    else last.text += line;
  }
  return sections.filter(({ text }) => text.trim() !== '');
}

/** Tags as they are spelled, quotes included. */
function tagsOf(section: string): string[] {
  const inline = /^tags:[ \t]*\[([^\]]*)\]/.exec(section)?.[1];
  const items =
    inline === undefined
      ? [...section.matchAll(/^\s*-\s+(.+?)\s*$/gm)].map(([, tag = '']) => tag)
      : inline.split(',').map((tag) => tag.trim());
  return items.filter((tag) => tag !== '' && !/^["']?mlx["']?$/i.test(tag));
}
