// Constants and how they are computed (PTX ISA, "Constant expressions"): 64-bit integers, signed unless a literal does
// not fit or says U, and doubles. Nothing here throws; what is wrong is said to `find`.

export interface IntegerValue {
  readonly kind: 'integer';
  /** In the range of s64, or of u64 when `unsigned`. */
  readonly value: bigint;
  readonly unsigned: boolean;
}
export interface FloatValue {
  readonly kind: 'float';
  readonly value: number;
}
/** `0f…`: 32 bits that are only passed on. */
export interface SingleValue {
  readonly kind: 'single';
  readonly bits: bigint;
}
export type Value = IntegerValue | FloatValue | SingleValue;
/** Takes one sentence that says what is wrong. */
export type Find = (message: string) => void;

const integer = (value: bigint, unsigned: boolean): IntegerValue => ({
  kind: 'integer',
  value: unsigned ? BigInt.asUintN(64, value) : BigInt.asIntN(64, value),
  unsigned,
});
const truth = (condition: boolean): IntegerValue => ({
  kind: 'integer',
  value: condition ? 1n : 0n,
  unsigned: false,
});
export const zero = truth(false);

const scratch = new DataView(new ArrayBuffer(8));

/** The bits of a double. */
export function bitsOfDouble(value: number): bigint {
  scratch.setFloat64(0, value);
  return scratch.getBigUint64(0);
}

export function integerLiteral(text: string, find: Find): IntegerValue {
  const marked = /[uU]$/.test(text);
  const digits = marked ? text.slice(0, -1) : text;
  // Small decimals are nearly all of them.
  if (digits.length < 10 && (digits.length === 1 || digits[0] !== '0'))
    return { kind: 'integer', value: BigInt(digits), unsigned: marked };
  let spelled = digits;
  if (/^0\d/.test(digits)) {
    if (/[89]/.test(digits)) {
      find(`${digits} begins with 0, so it is octal, but has the digit ${/[89]/.exec(digits)![0]}`);
      return zero;
    }
    spelled = `0o${digits.slice(1)}`;
  }
  // Far beyond 64 bits the value does not matter, and making it takes quadratic time.
  const value = spelled.length > 80 ? 1n << 64n : BigInt(spelled);
  if (value >= 1n << 64n) {
    find(`${digits.length > 40 ? `${digits.slice(0, 40)}…` : digits} does not fit 64 bits`);
    return zero;
  }
  return integer(value, marked || value >= 1n << 63n);
}

export function floatLiteral(text: string): Value {
  const kind = text[1];
  if (kind === 'f' || kind === 'F') return { kind: 'single', bits: BigInt(`0x${text.slice(2)}`) };
  if (kind !== 'd' && kind !== 'D') return { kind: 'float', value: Number(text) };
  scratch.setBigUint64(0, BigInt(`0x${text.slice(2)}`));
  return { kind: 'float', value: scratch.getFloat64(0) };
}

export function unary(operator: string, of: Value, find: Find): Value {
  if (of.kind === 'single') {
    // The ISA keeps 0f… out of expressions; compilers do write a sign before it.
    if (operator === '-') return { kind: 'single', bits: of.bits ^ 0x80000000n };
    if (operator === '+') return of;
  }
  if (of.kind === 'float' && (operator === '-' || operator === '+'))
    return operator === '-' ? { kind: 'float', value: -of.value } : of;
  if (of.kind !== 'integer') {
    find(`${operator} takes an integer, not a float`);
    return zero;
  }
  switch (operator) {
    case '-':
      return integer(-of.value, of.unsigned);
    case '!':
      return truth(of.value === 0n);
    case '~':
      return integer(~of.value, true);
    case '.s64':
      return integer(of.value, false);
    case '.u64':
      return integer(of.value, true);
    case '+':
      return of;
    default:
      find(`(${operator}) is no cast of a constant: (.s64) and (.u64) are`);
      return of;
  }
}

const precedence: Readonly<Record<string, number>> = {
  ...{ '*': 10, '/': 10, '%': 10, '+': 9, '-': 9, '<<': 8, '>>': 8 },
  ...{ '<': 7, '>': 7, '<=': 7, '>=': 7, '==': 6, '!=': 6, '&': 5, '^': 4, '|': 3, '&&': 2, '||': 1 },
};

function ofFloats(operator: string, a: number, b: number, find: Find): Value {
  switch (operator) {
    case '+':
      return { kind: 'float', value: a + b };
    case '-':
      return { kind: 'float', value: a - b };
    case '*':
      return { kind: 'float', value: a * b };
    case '/':
      return { kind: 'float', value: a / b };
    case '<':
      return truth(a < b);
    case '>':
      return truth(a > b);
    case '<=':
      return truth(a <= b);
    case '>=':
      return truth(a >= b);
    case '==':
      return truth(a === b);
    case '!=':
      return truth(a !== b);
    default:
      find(`${operator} takes integers, not floats`);
      return zero;
  }
}

function ofIntegers(operator: string, left: IntegerValue, right: IntegerValue, find: Find): Value {
  const unsigned = left.unsigned || right.unsigned;
  const a = unsigned ? BigInt.asUintN(64, left.value) : left.value;
  const b = unsigned ? BigInt.asUintN(64, right.value) : right.value;
  switch (operator) {
    case '+':
      return integer(a + b, unsigned);
    case '-':
      return integer(a - b, unsigned);
    case '*':
      return integer(a * b, unsigned);
    case '/':
    case '%': {
      if (b === 0n) {
        find('a constant is divided by zero');
        return zero;
      }
      // Remainders read both sides as unsigned and give an s64.
      if (operator === '%')
        return integer(BigInt.asUintN(64, left.value) % BigInt.asUintN(64, right.value), false);
      return integer(a / b, unsigned);
    }
    case '<<':
    case '>>': {
      // The ISA leaves counts of 64 and more open; ptxas takes them modulo 64.
      const count = right.value & 63n;
      return integer(operator === '<<' ? left.value << count : left.value >> count, left.unsigned);
    }
    case '&':
      return integer(a & b, unsigned);
    case '^':
      return integer(a ^ b, unsigned);
    case '|':
      return integer(a | b, unsigned);
    case '&&':
      return truth(a !== 0n && b !== 0n);
    case '||':
      return truth(a !== 0n || b !== 0n);
    case '==':
      return truth(a === b);
    case '!=':
      return truth(a !== b);
    case '<':
      return truth(a < b);
    case '>':
      return truth(a > b);
    case '<=':
      return truth(a <= b);
    default:
      return truth(a >= b);
  }
}

function binary(operator: string, left: Value, right: Value, find: Find): Value {
  if (left.kind === 'float' && right.kind === 'float')
    return ofFloats(operator, left.value, right.value, find);
  if (left.kind === 'integer' && right.kind === 'integer') return ofIntegers(operator, left, right, find);
  find(
    left.kind === 'single' || right.kind === 'single'
      ? '0f… constants stand alone, not in expressions'
      : `${operator} takes two integers or two floats`,
  );
  return zero;
}

/** `values[0] operators[0] values[1] …` with C's precedences. */
export function evaluate(values: readonly Value[], operators: readonly string[], find: Find): Value {
  if (operators.length === 0) return values[0];
  const left: Value[] = [values[0]];
  const waiting: string[] = [];
  const reduce = (): void => {
    const b = left.pop()!;
    const a = left.pop()!;
    left.push(binary(waiting.pop()!, a, b, find));
  };
  operators.forEach((operator, i) => {
    while (waiting.length > 0 && precedence[waiting.at(-1)!] >= precedence[operator]) reduce();
    waiting.push(operator);
    left.push(values[i + 1]);
  });
  while (waiting.length > 0) reduce();
  return left[0];
}

/** `condition ? a : b` */
export function choose(condition: Value, a: Value, b: Value, find: Find): Value {
  if (condition.kind !== 'integer') {
    find('the condition before ? is an integer');
    return zero;
  }
  if (a.kind !== b.kind) {
    find('both sides of : are integers or both are floats');
    return zero;
  }
  const chosen = condition.value !== 0n ? a : b;
  return chosen.kind === 'integer' && a.kind === 'integer' && b.kind === 'integer'
    ? integer(chosen.value, a.unsigned || b.unsigned)
    : chosen;
}
