import tokenizers, unicodedata, json, sys
from tokenizers import Regex, pre_tokenizers as P, normalizers as N
print(tokenizers.__version__, unicodedata.unidata_version)
cps=[c for c in range(0x110000) if not 0xD800<=c<=0xDFFF]
def cls(rx):
    s=set()
    for i in range(0,len(cps),50000):
        t="".join(map(chr,cps[i:i+50000]))
        for w,_ in P.Split(Regex(rx),"removed",invert=True).pre_tokenize_str(t): s.update(map(ord,w))
    return s
import unicodedata
cats={}
for c in cps: cats.setdefault(unicodedata.category(chr(c))[0],set()).add(c)
assigned=set(cps)-{c for c in cps if unicodedata.category(chr(c))=='Cn'}
out={}
for rx in [r"\p{L}",r"\p{N}",r"\s",r"\w",r"\d",r"\p{P}",r"\p{M}",r"\p{Lu}",r"\p{S}",r"[[:space:]]",r"\h"]:
    s=cls(rx); out[rx]=sorted(s)
for rx,k in [(r"\p{L}",'L'),(r"\p{N}",'N'),(r"\p{P}",'P'),(r"\p{M}",'M')]:
    s=set(out[rx]); d=(s^cats[k])
    print(rx,len(s),"differs from py unicode",unicodedata.unidata_version,":",len(d&assigned), len(d-assigned), [hex(x) for x in sorted(d)[:10]])
print([hex(x) for x in out[r"\s"]]); print(len(out[r"\w"]),len(out[r"\d"]),out[r"\h"][:3],len(out[r"\h"]))
json.dump(out,open("onig.json","w"))
# simple pre tokenizers
def pt(p):
    s=set()
    for i in range(0,len(cps),50000):
        t="".join("a"+chr(c)+"a" for c in cps[i:i+50000])
        pieces=p.pre_tokenize_str(t)
        for w,(a,b) in pieces:
            if w!='a' and len(w)==1: s.add(ord(w))
    return s
for name,p in [("digits",P.Digits(individual_digits=True)),("punct",P.Punctuation())]:
    s=pt(p); out[name]=sorted(s)
    print(name,len(s), len(s^cats['N' if name=='digits' else 'P']), [hex(x) for x in sorted(s^cats['N' if name=='digits' else 'P'])[:40]])
ws=set()
for c in cps:
    r=P.WhitespaceSplit().pre_tokenize_str("a"+chr(c)+"a")
    if len(r)==2: ws.add(c)
out["wssplit"]=sorted(ws); print([hex(x) for x in ws^set(out[r"\s"])])
w2=set()
for c in cps:
    r=P.Whitespace().pre_tokenize_str("a"+chr(c)+"a")
    if len(r)==1: w2.add(c)
out["ws_w"]=sorted(w2); print("Whitespace \\w", len(w2), len(w2^set(out[r"\w"])), [hex(x) for x in sorted(w2^set(out[r"\w"]))[:20]])
json.dump(out,open("onig.json","w"))
norm={}
for name,n in [("NFC",N.NFC()),("NFD",N.NFD()),("NFKC",N.NFKC()),("NFKD",N.NFKD()),("Lower",N.Lowercase())]:
    ref={"Lower":lambda s:s.lower()}.get(name,lambda s:unicodedata.normalize(name,s))
    d=[c for c in cps if n.normalize_str(chr(c))!=ref(chr(c))]
    norm[name]={str(c):n.normalize_str(chr(c)) for c in cps if n.normalize_str(chr(c))!=chr(c)}
    print(name,len(norm[name]),"diff from python unicodedata:",len(d),len([c for c in d if c in assigned]),[hex(c) for c in d[:40]])
json.dump(norm,open("norm.json","w"))
