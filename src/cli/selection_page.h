#pragma once
// The page of `taipan inspect --selection`.

#include <string>

#include "cli/output.h"

namespace taipan {

// One HTML file that opens without a network: the report (what --json prints) and, in it, a list a token: "texts",
// "selected" ("01..." a SAL), "alpha", "margin", "before_hit" ("01..."), and "benefit" where it was measured.
// Everything from outside reaches the page as text, never as markup.
std::string SelectionPage(const OrderedJson& report);

}  // namespace taipan
