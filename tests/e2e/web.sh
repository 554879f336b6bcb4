#!/bin/sh
# web.sh - the web page as the server hands it out: whole, compressed, kept by browsers, under its policy, open
# when the API is not; and that nothing in it parses HTML or comes from elsewhere.
# What it does in a browser is tests/page (make check-page).
. "$(dirname "$0")/../lib/e2e.sh"
for n in curl python3; do have $n || { skip "$n is not here"; finish; }; done
. "$SRC/tests/lib/tiny.sh"
tiny m || { fail "no model"; finish; }
drover serve m -p 0 -t 1 --api-key secret-key >log 2>&1 &
pid=$!
trap 'kill $pid 2>/dev/null; cd /; rm -rf "$T"' EXIT
for _ in $(seq 100); do
    url=$(sed -n 's|.*listening on \(http://[^ ]*\).*|\1|p' log)
    [ -z "$url" ] || break
    sleep .1
done
[ -n "$url" ] || { fail "the server does not listen"; cat log; finish; }

# is WHAT WANTED GOT
is() { if [ "$2" = "$3" ]; then ok; else fail "$1: $3, not $2"; fi; }
status() { curl -s -o body -D head -w '%{http_code}' "$@"; }
header() { tr -d '\r' <head | sed -n "s/^$1: //Ip"; }

is "the page needs no key" 200 "$(status "$url/")"
is "its type" "text/html; charset=utf-8" "$(header content-type)"
is "it is asked about" no-cache "$(header cache-control)"
if cmp -s body "$SRC/web/index.html"; then ok; else fail "the page is not web/index.html"; fi
for want in "default-src 'self'" "object-src 'none'" "frame-ancestors 'none'" "base-uri 'none'"; do
    case $(header content-security-policy) in *"$want"*) ok ;; *) fail "the policy lacks $want" ;; esac
done
case $(header content-security-policy) in *unsafe*|*http*|*\**) fail "the policy allows more than this server" ;; *) ok ;; esac
is "no sniffing" nosniff "$(header x-content-type-options | head -1)"
is "the API does need one" 401 "$(status "$url/v1/models")"
is "and takes it" 200 "$(status -H 'Authorization: Bearer secret-key' "$url/v1/models")"

# every file that the page and its modules name is there, as it is in the tree
names=$(grep -ohE "[\"'](/web/|\./)[a-z.]+[\"']" "$SRC"/web/*.html "$SRC"/web/*.js "$SRC"/web/*.webmanifest | sed 's|.*/||; s/.$//' | sort -u)
for f in $names; do
    is "$f" 200 "$(status "$url/web/$f")"
    if cmp -s body "$SRC/web/$f"; then ok; else fail "$f is not web/$f"; fi
    tag=$(header etag)
    is "$f again" 304 "$(status -H "If-None-Match: $tag" "$url/web/$f")"
    is "$f, compressed" 200 "$(status -H 'Accept-Encoding: br, gzip' "$url/web/$f")"
    is "$f is gzip" gzip "$(header content-encoding)"
    if gzip -dc <body | cmp -s - "$SRC/web/$f"; then ok; else fail "$f, compressed, is not web/$f"; fi
    if [ "$(header etag)" != "$tag" ]; then ok; else fail "$f: two forms with one tag"; fi
done
is "files that are in the program and in no module" "$(find "$SRC/web" -type f | wc -l)" "$(($(echo "$names" | wc -w) + 1))"
is "gzip refused" 200 "$(status -H 'Accept-Encoding: gzip;q=0, identity' "$url/web/app.js")"
if cmp -s body "$SRC/web/app.js"; then ok; else fail "gzip was sent to a client that refuses it"; fi
is "gzip preferred a little" gzip "$(status -H 'Accept-Encoding: gzip ; q=0.1' "$url/web/app.js" >/dev/null; header content-encoding)"
for bad in /web/none.js /web/../Makefile /web/%2e%2e/Makefile /web/app.js/ /web//app.js; do
    is "$bad" 404 "$(status --path-as-is "$url$bad")"
done

# what the page may not have in it
if grep -nE 'innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function|setAttribute\(.style' "$SRC"/web/*.js; then
    fail "the page's code parses HTML or runs text"
else
    ok
fi
if grep -nE '(https?:)?//[a-z0-9.-]+\.[a-z]{2,}' "$SRC"/web/* | grep -v 'http://www.w3.org/'; then fail "the page names another host"; else ok; fi
kill $pid
wait $pid
is "the server's end" 0 $?
finish
