#pragma once
// The frame of our HTML pages: one file that needs no network. Text from outside goes in by XmlEscaped.

#include <string>
#include <string_view>

namespace taipan {

// Up to <body>. style: CSS beyond what all pages share. script: whether the page has scripts of its own.
std::string PageBegin(const std::string& title, std::string_view style = "", bool script = false);
inline constexpr std::string_view kPageEnd = "</body>\n</html>\n";

}  // namespace taipan
