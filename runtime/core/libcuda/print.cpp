// Reports on standard error as `dsvc emu` prints them, and as JSON lines in a file.
#include <algorithm>
#include <cstdio>
#include <fstream>

#include "state.h"

namespace dsvc::driver {

using emu::format;

namespace {

const char* nameOf(emu::Severity s) {
  return s == emu::Severity::error ? "error" : s == emu::Severity::warning ? "warning" : "note";
}

std::string lineOf(const std::string& text, uint32_t line) {
  size_t at = 0;
  for (uint32_t k = 1; k < line; ++k) {
    size_t end = text.find('\n', at);
    if (end == std::string::npos) return "";
    at = end + 1;
  }
  return text.substr(at, std::min(text.find('\n', at), text.size()) - at);
}

// From an instruction's first character (from 1) to its semicolon, or to the end of its line.
struct Span {
  uint32_t line = 0, column = 0, end = 0;
};
Span spanOf(const std::string& text, uint32_t line, uint32_t column) {
  std::string row = lineOf(text, line);
  size_t first = row.find_first_not_of(" \t");
  uint32_t from = std::max<uint32_t>(column, first == std::string::npos ? 1 : static_cast<uint32_t>(first) + 1);
  size_t semicolon = row.find(';', from - 1);
  size_t last = row.find_last_not_of(" \t\r");
  size_t end = semicolon != std::string::npos ? semicolon + 2 : last == std::string::npos ? 1 : last + 2;
  return {line, from, std::max<uint32_t>(static_cast<uint32_t>(end), from + 1)};
}

std::string who(const emu::Site& s) {
  std::string text = format("block (%u, %u, %u)", s.block[0], s.block[1], s.block[2]);
  if (s.warp >= 0) text += format(", warp %d", s.warp);
  if (s.lane >= 0) text += format(", lane %d", s.lane);
  return text;
}

struct Note {
  std::string message, file;
  uint32_t line = 0, column = 0, end = 0;
};

void addSource(std::vector<Note>& notes, const emu::Site& s) {
  if (!s.locFile.empty() && s.locLine) notes.push_back({"from this line", s.locFile, s.locLine, std::max(1u, s.locColumn), std::max(1u, s.locColumn) + 1});
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += std::string("\\") + c;
    else if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (static_cast<unsigned char>(c) < 0x20) out += format("\\u%04x", static_cast<unsigned>(c));
    else out += c;
  }
  return out + "\"";
}

// The line with its caret, cut around it when long.
std::string excerpt(const std::string& row, const Span& span) {
  size_t from = span.column > 100 ? span.column - 60 : 0;
  std::string shown = row.size() > from ? row.substr(from, 140) : "";
  for (char& c : shown)
    if (c == '\t') c = ' ';
    else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  std::string gutter = format("%u | ", span.line);
  size_t start = span.column - 1 - from, width = std::max<size_t>(1, std::min(span.end - 1 - from, shown.size()) - start);
  return gutter + shown + "\n" + std::string(gutter.size() + start, ' ') + std::string(width, '^') + "\n";
}

}  // namespace

void explain(const std::string& code, const std::string& message, const std::string& fix) {
  std::string text = format("error[%s]: %s\n", code.c_str(), message.c_str());
  if (!fix.empty()) text += "fix: " + fix + "\n";
  std::fputs(text.c_str(), stderr);
  if (process().settings.diagnostics.empty()) return;
  std::ofstream out(process().settings.diagnostics, std::ios::app);
  out << "{\"code\":" << quoted(code) << ",\"severity\":\"error\",\"message\":" << quoted(message);
  if (!fix.empty()) out << ",\"fix\":" << quoted(fix);
  out << "}\n";
}

void print(const emu::Report& r, const Source* source) {
  const std::string name = source ? source->name : "module", empty;
  const std::string& ptx = source ? source->text : empty;
  bool placed = r.site.ptxLine > 0;
  Span span = placed ? spanOf(ptx, r.site.ptxLine, r.site.ptxColumn) : Span{};
  std::vector<Note> notes;
  std::string device = process().gpus.size() > 1 ? format(" on device %u", r.site.device) : "";
  std::string times = r.count > 1 ? format("; %llu times in all", static_cast<unsigned long long>(r.count)) : "";
  notes.push_back({format("kernel %s%s, %s%s", r.site.kernel.c_str(), device.c_str(), who(r.site).c_str(), times.c_str()), "", 0, 0, 0});
  addSource(notes, r.site);
  for (const emu::Site& o : r.others) {
    Note n{(o.what.empty() ? "and" : o.what) + ": " + who(o), "", 0, 0, 0};
    if (o.ptxLine) {
      Span at = spanOf(ptx, o.ptxLine, o.ptxColumn);
      n.file = name;
      n.line = at.line;
      n.column = at.column;
      n.end = at.end;
    }
    notes.push_back(n);
    addSource(notes, o);
  }
  std::string text = format("%s[%s]: %s\n", nameOf(r.severity), r.code.c_str(), r.message.c_str());
  if (placed) text += format("  --> %s:%u:%u\n", name.c_str(), span.line, span.column);
  if (placed && !ptx.empty()) text += excerpt(lineOf(ptx, span.line), span);
  for (const Note& n : notes) {
    text += "note: " + n.message;
    if (!n.file.empty()) text += format(" (%s:%u:%u)", n.file.c_str(), n.line, n.column);
    text += "\n";
  }
  if (!r.fix.empty()) text += "fix: " + r.fix + "\n";
  std::fputs(text.c_str(), stderr);

  if (process().settings.diagnostics.empty()) return;
  std::ofstream out(process().settings.diagnostics, std::ios::app);
  out << "{\"code\":" << quoted(r.code) << ",\"severity\":\"" << nameOf(r.severity) << "\",\"message\":" << quoted(r.message);
  if (placed)
    out << ",\"file\":" << quoted(name) << ",\"line\":" << span.line << ",\"column\":" << span.column << ",\"endLine\":" << span.line
        << ",\"endColumn\":" << span.end;
  out << ",\"notes\":[";
  for (size_t k = 0; k < notes.size(); ++k) {
    out << (k ? "," : "") << "{\"message\":" << quoted(notes[k].message);
    if (!notes[k].file.empty()) out << ",\"at\":" << quoted(format("%s:%u:%u-%u", notes[k].file.c_str(), notes[k].line, notes[k].column, notes[k].end));
    out << "}";
  }
  out << "]";
  if (!r.fix.empty()) out << ",\"fix\":" << quoted(r.fix);
  out << "}\n";
}

}  // namespace dsvc::driver
