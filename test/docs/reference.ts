// How docs/DSL.md's table spells what dsl/index.ts exports: the call with its parameters, a type with its fields.
import { join } from 'node:path';
import { Node, Project, type Signature, type Symbol as TsSymbol, type Type } from 'ts-morph';
import { root } from '../cli/process.ts';

/** Types whose fields an author writes down; the others are only passed on. */
const written = /(Options|Config|Visibility)$/;

/** Parameters that are a list of settings, shown with the settings' names instead of their own. */
const settings = ['given', 'operands'];

/** `{ over?, dtype? }` for a type with these properties. Declarations' own marks, kind and place, are left out. */
function fieldsOf(type: Type): string {
  const all = type.getProperties();
  const marks = all.some((p) => p.getName() === 'kind') ? ['kind', 'at'] : [];
  const own = all.filter((p) => !marks.includes(p.getName()));
  return `{ ${own.map((p) => p.getName() + (p.isOptional() ? '?' : '')).join(', ')} }`;
}

function spelled(parameter: TsSymbol, from: Node, optional: boolean): string {
  const declaration = parameter.getValueDeclarationOrThrow();
  if (!Node.isParameterDeclaration(declaration)) throw new Error(`${parameter.getName()} is no parameter`);
  const type = parameter.getTypeAtLocation(from).getNonNullableType();
  const expanded =
    Node.isObjectBindingPattern(declaration.getNameNode()) || settings.includes(parameter.getName());
  const name = expanded ? fieldsOf(type) : parameter.getName();
  if (declaration.isRestParameter()) return `...${name}`;
  // An object whose fields are all optional says so by itself.
  return optional && !expanded ? `${name}?` : name;
}

function callOf(name: string, signatures: readonly Signature[], from: Node): string {
  // Of overloads the longest; what a shorter one lacks is optional.
  const sorted = [...signatures].sort((a, b) => b.getParameters().length - a.getParameters().length);
  const least = Math.min(...signatures.map((s) => s.getParameters().length));
  const parameters = sorted[0].getParameters().map((p, i) => {
    const d = p.getValueDeclarationOrThrow();
    return spelled(p, from, i >= least || (Node.isParameterDeclaration(d) && d.isOptional()));
  });
  return `${name}(${parameters.join(', ')})`;
}

/** Every exported name of `dsl/index.ts` and how the table writes it. */
export function exportedForms(): ReadonlyMap<string, string> {
  const project = new Project({
    tsConfigFilePath: join(root, 'tsconfig.json'),
    skipAddingFilesFromTsConfig: true,
  });
  const index = project.addSourceFileAtPath(join(root, 'dsl/index.ts'));
  const forms = new Map<string, string>();
  for (const [name, [declaration]] of index.getExportedDeclarations()) {
    const type = declaration.getType();
    const isType = Node.isInterfaceDeclaration(declaration) || Node.isTypeAliasDeclaration(declaration);
    const signatures = isType ? [] : type.getCallSignatures();
    if (signatures.length > 0) forms.set(name, callOf(name, signatures, declaration));
    else forms.set(name, isType && written.test(name) ? `${name} ${fieldsOf(type)}` : name);
  }
  return forms;
}
