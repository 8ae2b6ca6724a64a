'use strict'

// Writes docs/api.md from index.d.ts: what its comments say, in an order to read. `--check` says whether it is
// up to date instead.

const fs = require('node:fs')
const path = require('node:path')
const ts = require('typescript')

const ROOT = path.join(__dirname, '..')
const SOURCE = path.join(ROOT, 'index.d.ts')
const TARGET = path.join(ROOT, 'docs', 'api.md')

/** The reference as Markdown. */
function reference () {
  const source = ts.createSourceFile(SOURCE, fs.readFileSync(SOURCE, 'utf8'), ts.ScriptTarget.Latest, true)
  const declared = source.statements.filter(statement => isExported(statement) && nameOf(statement) !== undefined)
  const names = new Set(declared.map(nameOf))
  const sections = [
    ['Calls', declared.filter(isCall)],
    ['Types', declared.filter(statement => !isCall(statement))]
  ]
  const body = sections.map(([title, statements]) => `## ${title}\n\n${groups(statements).map(group => describe(group, names)).join('\n')}`)
  return `# API reference

Made from [index.d.ts](../index.d.ts) by \`npm run docs\`. The README shows how the parts go together, [recipes.md](recipes.md)
has whole programs, [troubleshooting.md](troubleshooting.md) says what helps with each error.

${body.join('\n')}`.trimEnd() + '\n'
}

/** Overloads of one function stand together. */
function groups (statements) {
  const byName = new Map()
  for (const statement of statements) byName.set(nameOf(statement), [...byName.get(nameOf(statement)) ?? [], statement])
  return [...byName.values()]
}

function describe (statements, names) {
  const [first] = statements
  const parts = [`### ${nameOf(first)}\n`]
  if (isCall(first) && !isObject(first)) parts.push(fence(statements.map(statement => signature(statement))))
  parts.push(...statements.map(statement => comment(statement, names)))
  const base = ts.isInterfaceDeclaration(first) || ts.isClassDeclaration(first) ? heritage(first, names) : ''
  if (base) parts.push(`${base}\n`)
  if (isObject(first)) parts.push(...members(typeOf(first).members, `${nameOf(first)}.`, names))
  else if (ts.isInterfaceDeclaration(first) || ts.isClassDeclaration(first)) parts.push(...members(first.members, '', names))
  else if (ts.isTypeAliasDeclaration(first)) parts.push(alias(first, names))
  return parts.filter(Boolean).join('\n')
}

/** Properties as a table, then each method with its signature. */
function members (all, prefix, names) {
  const methods = all.filter(member => ts.isMethodSignature(member) || ts.isMethodDeclaration(member))
  const properties = all.filter(member => (ts.isPropertySignature(member) || ts.isPropertyDeclaration(member)))
  const parts = []
  if (properties.length > 0) {
    const rows = properties.map(member => `| \`${cell(memberName(member))}${member.questionToken ? '?' : ''}\` | ${cell(type(member.type, names))} | ${cell(line(comment(member, names)))} |`)
    parts.push(`| | type | |\n|---|---|---|\n${rows.join('\n')}\n`)
  }
  for (const group of groups(methods.filter(method => !memberName(method).startsWith('[')))) {
    parts.push(`#### ${prefix}${memberName(group[0])}()\n`)
    parts.push(fence(group.map(method => signature(method, prefix))))
    parts.push(...group.map(method => comment(method, names)))
  }
  return parts
}

/** A union with a comment at each of its members as a table; any other type as it is written. */
function alias (statement, names) {
  const members = ts.isUnionTypeNode(statement.type) ? statement.type.types : []
  const rows = members.map(member => [member.getText(), line(leading(member))]).filter(([, text]) => text !== '')
  if (rows.length > 0) return `| | |\n|---|---|\n${rows.map(([name, text]) => `| \`${name.replaceAll("'", '')}\` | ${cell(text)} |`).join('\n')}\n`
  return fence([`type ${nameOf(statement)} = ${statement.type.getText()}`])
}

function heritage (statement, names) {
  const types = (statement.heritageClauses ?? []).flatMap(clause => clause.types)
  return types.length > 0 ? `Has all of ${types.map(base => linked(base.getText(), names)).join(' and ')}.` : ''
}

/** What a declaration's comment says, its links made Markdown's. */
function comment (node, names) {
  const docs = ts.getJSDocCommentsAndTags(node).filter(ts.isJSDoc)
  const text = docs.map(doc => textOf(doc.comment)).filter(Boolean).join('\n\n')
  return text ? `${text.replace(/\{@link ([\w.]+)\}/g, (_, name) => `\`${name}\``)}\n` : ''
}

/** The comment before a member of a union, which the compiler attaches to nothing. */
function leading (node) {
  const text = node.getSourceFile().text
  const ranges = ts.getLeadingCommentRanges(text, node.getFullStart()) ?? []
  return ranges.map(({ pos, end }) => text.slice(pos, end).replace(/^\/\*\*?|\*\/$/g, '').replace(/^\s*\* ?/gm, '').replace(/^\/\/ ?/, '')).join(' ')
}

function textOf (comment) {
  if (comment === undefined || typeof comment === 'string') return comment ?? ''
  return comment.map(part => part.name ? `{@link ${part.name.getText()}${part.text}}` : part.text).join('')
}

function signature (node, prefix = '') {
  const parameters = (node.parameters ?? []).map(parameter => parameter.getText()).join(', ')
  if (ts.isVariableStatement(node)) return `${nameOf(node)}: ${typeOf(node).getText()}`
  return `${prefix}${ts.isFunctionDeclaration(node) ? nameOf(node) : memberName(node)}(${parameters}): ${node.type?.getText() ?? 'void'}`
}

function type (node, names) {
  return node === undefined ? '' : linked(line(node.getText()), names)
}

/** A type in code, with a link where it is one of ours and stands alone. */
function linked (text, names) {
  const name = /^[A-Za-z]+/.exec(text)?.[0]
  return names.has(text) ? `[\`${text}\`](#${text.toLowerCase()})` : names.has(name) && text.endsWith('[]') ? `[\`${text}\`](#${name.toLowerCase()})` : `\`${text}\``
}

function isExported (statement) {
  return statement.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword) ?? false
}

function isCall (statement) {
  return ts.isFunctionDeclaration(statement) || ts.isVariableStatement(statement)
}

function isObject (statement) {
  return ts.isVariableStatement(statement) && ts.isTypeLiteralNode(typeOf(statement))
}

function typeOf (statement) {
  return statement.declarationList.declarations[0].type
}

function nameOf (statement) {
  if (ts.isVariableStatement(statement)) return statement.declarationList.declarations[0].name.getText()
  return statement.name?.getText()
}

function memberName (member) {
  return member.name.getText()
}

function fence (lines) {
  return `\`\`\`ts\n${lines.join('\n')}\n\`\`\`\n`
}

function line (text) {
  return text.replace(/\s+/g, ' ').trim()
}

function cell (text) {
  return text.replaceAll('|', '\\|')
}

const wanted = reference()
if (process.argv.includes('--check')) {
  const stands = fs.existsSync(TARGET) ? fs.readFileSync(TARGET, 'utf8') : ''
  if (stands !== wanted) {
    process.stderr.write('docs/api.md is not what index.d.ts says: npm run docs\n')
    process.exitCode = 1
  }
} else {
  fs.writeFileSync(TARGET, wanted)
}
