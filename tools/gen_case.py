#!/usr/bin/env python3
"""Characters that become several in another case, as src/text/case_data.c.

    tools/gen_case.py > src/text/case_data.c

The one-to-one maps are utf8proc's; these rows are Unicode's SpecialCasing as Python has it.
"""
import unicodedata

rows = []
for c in range(0x110000):
    up, ti = chr(c).upper(), chr(c).title()
    if len(up) > 1 or len(ti) > 1:
        rows.append((c, up, ti))
print(f"""/* case_data.c - made by tools/gen_case.py (Unicode {unicodedata.unidata_version}); do not edit.
 * A character, its upper case, its title case; 0 fills up. */
#include "text/jinja_priv.h"

const uint16_t case_many[][7] = {{""")
line = "   "
for c, up, ti in rows:
    cell = [c] + [ord(x) for x in up.ljust(3, "\0")] + [ord(x) for x in ti.ljust(3, "\0")]
    item = " { " + ", ".join(hex(v) if v else "0" for v in cell) + " },"
    if len(line) + len(item) > 98:
        print(line)
        line = "   "
    line += item
print(line)
print("};")
print("const size_t case_many_n = sizeof case_many / sizeof *case_many;")
