#pragma once
// Runs a parsed template.

#include <map>
#include <string>

#include "text/jinja/syntax.h"
#include "text/jinja/value.h"

namespace taipan::jinja {

// The text of the template with these variables. UserError (where: `where`, with the template's line) for what the
// template itself refuses, for what Jinja would refuse, and for what is not supported, by its name.
std::string Render(const std::vector<Statement>& statements, std::map<std::string, Value> variables,
                   const std::string& where);

}  // namespace taipan::jinja
