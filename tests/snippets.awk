# SPDX-License-Identifier: Apache-2.0
# Turns the C++ of a document into sources and prints their names: awk -v out=BEGINNING_OF_NAMES -f snippets.awk PAGE
#   ```cpp        code at file scope. A block that begins with #include begins a new source, others continue the last one.
#   ```cpp body   statements: the same, wrapped in a function.
# #line directives make the compiler's messages point into the page.
/^```cpp/ { inside = fresh = 1; body = $2 == "body"; next }
/^```$/ && inside { inside = 0; if (body) print "}" > source; next }
inside && fresh {
  fresh = 0
  if (source == "" || $1 == "#include") { source = out "_" NR ".cpp"; print source }
  if (body) print "void snippet_" NR "() {" > source
  print "#line " NR " \"" FILENAME "\"" > source
}
inside { print > source }
