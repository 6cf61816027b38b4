#include "plot/page.h"

#include "plot/plot.h"

namespace taipan {

std::string PageBegin(const std::string& title, std::string_view style, bool script) {
  std::string page = R"html(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline')html";
  if (script) page += "; script-src 'unsafe-inline'";
  page += "\">\n<title>" + XmlEscaped(title) + R"html(</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 72rem; margin: 1.5rem auto; padding: 0 1rem; }
  h1 { font-size: 1.4rem; margin: 0 0 .6rem; } h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; }
  p { margin: .3rem 0; color: #555; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
  th, td { padding: .12rem .75rem .12rem 0; text-align: right; white-space: nowrap; } th { color: #555; font-weight: 600; }
  th:first-child, td:first-child { text-align: left; }
)html";
  page += style;
  return page + "</style>\n</head>\n<body>\n";
}

}  // namespace taipan
