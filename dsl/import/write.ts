// Writes the model file of a config: dims and options first, so that `--set` works on imported models too, then the
// layers spelled out as an author would write them, then the model. ts-morph builds it as a syntax tree, which keeps
// names, imports and layout right whatever parts a config leaves out. The file is meant to be read and changed; it
// says what the config says and no more.
import {
  IndentationText,
  Project,
  QuoteKind,
  StructureKind,
  SyntaxKind,
  VariableDeclarationKind,
  type SourceFile,
  type StatementStructures,
  type WriterFunction,
} from 'ts-morph';
import { blocks } from './blocks.ts';
import type { ModelConfig } from './config.ts';
import type { Constant } from './file.ts';
import { declarations, normEpsilon } from './sizes.ts';

/**
 * What model files import from 'dsvc', in the order in which an imported file names it. `type` marks types.
 * A name that a file does not use is left out of its imports.
 */
const library: Readonly<Record<string, 'value' | 'type'>> = {
  add: 'value',
  attention: 'value',
  attentionScale: 'value',
  block: 'value',
  broadcast: 'value',
  buffer: 'value',
  cache: 'value',
  combineTokens: 'value',
  concat: 'value',
  dim: 'value',
  embedding: 'value',
  groupedLinear: 'value',
  groupTokens: 'value',
  head: 'value',
  keys: 'value',
  linear: 'value',
  model: 'value',
  option: 'value',
  perLayer: 'value',
  range: 'value',
  remember: 'value',
  repeat: 'value',
  rmsNorm: 'value',
  rope: 'value',
  route: 'value',
  sigmoid: 'value',
  siluMul: 'value',
  slotWeights: 'value',
  softmax: 'value',
  split: 'value',
  sum: 'value',
  swiglu: 'value',
  Cache: 'type',
  Positions: 'type',
  Tensor: 'type',
};

export interface WriteOptions {
  /** The config's file, named in the header; its folder is left out. */
  readonly from: string;
  /** Name of the model: its `model_type` unless said otherwise. */
  readonly name?: string;
}

/** The text of a model file for a checked config, as prettier would lay it out with 110 columns. */
export function writeModel(config: ModelConfig, { from, name = config.family }: WriteOptions): string {
  const project = new Project({
    useInMemoryFileSystem: true,
    skipLoadingLibFiles: true,
    manipulationSettings: { indentationText: IndentationText.TwoSpaces, quoteKind: QuoteKind.Single },
  });
  const file = project.createSourceFile('model.ts', {
    statements: [
      ...declarations(config).map(constant),
      {
        kind: StructureKind.TypeAlias,
        name: 'Hidden',
        type: "Tensor<['tokens', 'hidden']>",
        leadingTrivia: '\n',
      },
      { kind: StructureKind.TypeAlias, name: 'LatentCache', type: 'Cache<typeof latentCache>' },
      ...blocks(config).map(constant),
      {
        kind: StructureKind.ExportAssignment,
        isExportEquals: false,
        expression: model(config, name),
        leadingTrivia: '\n',
      },
    ],
  });
  file.insertText(0, header(config, from) + imports(file));
  file.formatText({ indentSize: 2 });
  return file.getFullText().replace(/\n{3,}/g, '\n\n');
}

function header(c: ModelConfig, from: string): string {
  const base = (from.split(/[\\/]/).at(-1) ?? '').replace(/[^\w.-]/g, '_') || 'config.json';
  const title = c.family === 'deepseek_v3' ? 'DeepSeek-V3' : 'DeepSeek-V2';
  const lines = [
    `A ${title} model, imported from ${base}. Weight names and shapes are the checkpoint's.`,
    ...(c.quantized ? ['Its linear weights are FP8, with one scale per 128x128 block.'] : []),
    ...(c.predictionLayers > 0
      ? ['Its multi-token-prediction layers, after the last layer, are left out.']
      : []),
  ];
  return `${lines.map((l) => `// ${l}`).join('\n')}\n`;
}

const constant = ({ name, value, doc, apart }: Constant): StatementStructures => ({
  kind: StructureKind.VariableStatement,
  declarationKind: VariableDeclarationKind.Const,
  declarations: [{ name, initializer: value }],
  docs: doc === undefined ? [] : [doc],
  ...(apart ? { leadingTrivia: '\n' } : {}),
});

/** The import of exactly what the file uses. */
function imports(file: SourceFile): string {
  const used = new Set<string>();
  for (const id of file.getDescendantsOfKind(SyntaxKind.Identifier)) {
    const parent = id.getParent();
    // A property's name is no use of the library's name, but a shorthand property is.
    const named =
      parent.asKind(SyntaxKind.PropertyAssignment) ?? parent.asKind(SyntaxKind.PropertyAccessExpression);
    if (named?.getNameNode() !== id) used.add(id.getText());
  }
  const names = Object.keys(library).filter((n) => used.has(n));
  const lines = names.map((n) => `  ${library[n] === 'type' ? 'type ' : ''}${n},\n`);
  return `import {\n${lines.join('')}} from 'dsvc';\n\n`;
}

/** `model('deepseek_v3', { state, forward })` */
function model(c: ModelConfig, name: string): WriterFunction {
  return (writer) => {
    writer.write(`model('${name}', `).inlineBlock(() => {
      writer.writeLine('state: { caches: perLayer(latentCache, layers) },');
      writer.write('forward: (ids, at, { caches }) => ').inlineBlock(() => {
        for (const s of forward(c)) writer.writeLine(s);
      });
      writer.write(',').newLine();
    });
    writer.write(')');
  };
}

function forward(c: ModelConfig): readonly string[] {
  const options = [
    ...(c.tied ? ["name: 'model.embed_tokens'"] : []),
    ...(c.epsilon === normEpsilon ? [] : ['epsilon']),
  ];
  return [
    'const embedded = embedding(ids, vocab, hidden);',
    ...layerCalls(c),
    ...(c.tied ? ['// The head\'s weight is the embedding\'s: "tie_word_embeddings".'] : []),
    `return head(deep, at, vocab${options.length > 0 ? `, { ${options.join(', ')} }` : ''});`,
  ];
}

function layerCalls(c: ModelConfig): readonly string[] {
  if (c.experts === null) return ['const deep = repeat(layers, denseLayer, embedded, at, caches);'];
  if (c.denseLayers === 0) return ['const deep = repeat(layers, moeLayer, embedded, at, caches);'];
  return [
    // With --set layers=2 a model may end among its dense layers.
    'const firstMoe = Math.min(denseLayers, layers);',
    'const shallow = repeat(range(0, firstMoe), denseLayer, embedded, at, caches);',
    'const deep = repeat(range(firstMoe, layers), moeLayer, shallow, at, caches);',
  ];
}
