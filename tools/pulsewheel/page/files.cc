// The assembler puts the files here as they are. It takes their paths from the root of the
// repository, where make runs it; the Makefile says that this object depends on them.
#include "tools/pulsewheel/page/files.h"

#include <string_view>

#define PULSE_EMBED(name, path)                                                              \
    asm(".pushsection .rodata\n" #name                                                       \
        ":\n"                                                                                \
        ".incbin \"tools/pulsewheel/page/" path "\"\n" #name "_end:\n.byte 0\n.popsection"); \
    extern "C" const char name[];                                                            \
    extern "C" const char name##_end[]

PULSE_EMBED(pulse_page_html, "index.html");
PULSE_EMBED(pulse_page_js, "page.js");
PULSE_EMBED(pulse_page_css, "page.css");
PULSE_EMBED(pulse_page_icon, "icon.svg");

namespace pulse::serve {

std::span<const PageFile> page_files() {
    static const PageFile kFiles[] = {
        {"/", "text/html; charset=utf-8", {pulse_page_html, pulse_page_html_end}},
        {"/page.js", "text/javascript; charset=utf-8", {pulse_page_js, pulse_page_js_end}},
        {"/page.css", "text/css; charset=utf-8", {pulse_page_css, pulse_page_css_end}},
        {"/icon.svg", "image/svg+xml", {pulse_page_icon, pulse_page_icon_end}},
    };
    return kFiles;
}

}  // namespace pulse::serve
