"""Fields of docs/openapi.yaml and of the server's table are the same: openapi_fields.py URL KEY ROOT"""
import json, re, sys, urllib.error, urllib.request
import yaml

url, key, root = sys.argv[1:4]
doc = yaml.safe_load(open(root + "/docs/openapi.yaml"))
table = open(root + "/src/serve/oai_fields.c").read()
table = table[table.index("static const field FIELDS"):]
rows = re.findall(r'\{ "(\w+)", (FIELD_\w+)[^}]*?\.of = ([A-Z_| ]+)', table)
bits = {"OAI_CHAT": 1, "OAI_TEXT": 2, "OAI_RESPONSES": 4, "OAI_EMBED": 8, "CT": 3, "CTR": 7, "CR": 5, "ANY": 15}
of = lambda s: sum({b for w in s.split("|") for b in (1, 2, 4, 8) if bits[w.strip()] & b})
bad = []
for path, name, bit in (("chat/completions", "ChatRequest", 1), ("completions", "CompletionRequest", 2),
                        ("responses", "ResponsesRequest", 4), ("embeddings", "EmbeddingsRequest", 8)):
    said = set(doc["components"]["schemas"][name]["properties"])
    known = {r[0] for r in rows if of(r[2]) & bit}
    taken = {r[0] for r in rows if of(r[2]) & bit and r[1] != "FIELD_REFUSED"}
    if not len(taken) > 3 or not taken <= said <= known:
        bad.append("%s: not described: %s; not in the table: %s" % (name, taken - said, said - known))
    for field in sorted(said) + ["no_such_field"]:
        r = urllib.request.Request("%s/v1/%s" % (url, path), json.dumps({field: {"no": ["such value"]}}).encode(),
                                   {"Authorization": "Bearer " + key, "Content-Type": "application/json"})
        try:
            urllib.request.urlopen(r)
            message = "200"
        except urllib.error.HTTPError as e:
            message = json.load(e)["error"]["message"]
        if ("known here" in message) != (field == "no_such_field"):
            bad.append("%s %s: %s" % (path, field, message))
print("\n".join(bad) or "openapi: the fields are those of the server")
sys.exit(bool(bad))
