"""Lines of a page that belong to the page and not to the text on it."""

import re
from dataclasses import dataclass
from functools import lru_cache

from maxlite.corpus.step import Change

# Each is compared with a whole line, without the blanks and the list marks around it and without
# regard to case. A line that says something beside them is nobody's boilerplate, so what may stand
# before and after a phrase is short and told exactly.
_NAME = r"[가-힣]{2,4}"
_MAIL = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
_SIGN = r"(?:ⓒ|©|\(c\))"
_FORBIDDEN = (
    r"무단[ ,]?(?:전재|복제|배포|도용|사용|수집)"
    r"(?:[ ,·/및과와-]+(?:무단 ?)?(?:재 ?배포|복제|배포|전재|수집|도용|이용|DB ?금지"
    r"|AI ?학습(?: ?(?:및 ?활용|이용))?))*"
    r"(?:[을를 ]*(?:금지|금함|금합니다|엄격히 금합니다|불허))?|all rights? reserved"
)
_ENDS = r"[\s.,>)\]】]*"
# Entries of menus, with _ where a blank may stand: those that say enough alone, and words that are
# a menu's only beside other entries.
_MENU = (
    r"로그인 로그아웃 회원_가입 마이_페이지 아이디/?비밀번호_찾기 고객_센터 사이트_맵 홈으로 "
    r"메인으로 맨_위로 위로_가기 목록(?:으로|보기) 댓글_(?:쓰기|달기|입력|보기) 댓글_\d+개? "
    r"(?:공유|스크랩|인쇄|신고|구독|글쓰기|검색)하기 (?:비?추천|좋아요)_\d+ 조회_수?_:?_[\d,]+ "
    r"더_보기 전체_보기 (?:이전|다음)_(?:글|기사|페이지) (?:관련|인기|최신)_(?:글|기사) "
    r"많이_본_(?:뉴스|기사) 주요_뉴스 (?:본문|메뉴)?_바로가기 전체_메뉴 글자_크기 "
    r"글씨_(?:크게|작게) 폰트_크기 메일_보내기 (?:URL|주소|링크)_복사 카카오스토리 "
    r"네이버_(?:블로그|밴드) 기사_(?:보내기|제보) 개인정보_(?:처리|취급)_방침 이용_약관 "
    r"청소년_보호_정책 이메일_(?:주소)?_무단_수집_거부 저작권_(?:정책|보호) (?:광고|제휴)_문의 "
    r"제휴_안내 회사_소개 (?:찾아)?오시는_길 log_in log_out sign_in sign_up sign_out "
    r"subscribe(?:_now)? share_this skip_to_(?:main_)?(?:content|navigation) back_to_top "
    r"(?:read|load|show|see|learn)_more view_all (?:next|previous|prev)_(?:page|post|article) "
    r"related_(?:posts|articles|stories) most_(?:read|popular) leave_a_(?:reply|comment) "
    r"post_a_comment about_us contact_us privacy_policy terms_of_(?:use|service) "
    r"terms_and_conditions site_map cookie_(?:policy|settings) advertisements? "
    r"sponsored_content follow_us copy_link add_to_cart"
)
_WORDS = (
    "장바구니 목록 답글 댓글 공유 스크랩 인쇄 프린트 신고 추천 비추천 좋아요 구독 이전 다음 "
    "검색 카테고리 메뉴 닫기 열기 이메일 카카오톡 페이스북 트위터 밴드 홈 처음 TOP home menu "
    "search share tweet pin_it print e-?mail next previous prev reply report close register "
    "contact privacy terms faq about help facebook twitter instagram youtube linkedin "
    "pinterest whatsapp"
)
_ALONE, _ANY = (
    "|".join(words.split()).replace("_", " ?") for words in (_MENU, _MENU + " " + _WORDS)
)
_NEXT = r"(?:\s*[|·/>»,]\s*|\s+)"
_DAY = r"\d{4}[-./년]\s?\d{1,2}[-./월]\s?\d{1,2}[.일]?"
DEFAULT = (
    # Rights: a sign or the word and what is forbidden, or either alone with little around it.
    rf"[<\[(【]?(?:저작권자?\s*{_SIGN}?|copyright|{_SIGN}).{{0,60}}(?:{_FORBIDDEN}){_ENDS}",
    rf"[<\[(【]?(?:{_FORBIDDEN}){_ENDS}",
    rf"(?:copyright\s*{_SIGN}?|{_SIGN})\s*\d{{4}}(?:\s?[-–]\s?\d{{4}})?[\s,.]*"
    r"[\w .,&·'()-]{0,50}",
    rf"copyright\s*{_SIGN}\s*[\w .,&·'-]{{0,40}}|[ⓒ©]\s?[\w.]{{2,20}}",
    # Who wrote it, and where the paper asks for news.
    rf"(?=.*@)[(\[<]?.{{0,20}}?{_NAME} ?(?:선임|수석|인턴|객원|전문|온라인)? ?기자[)\]>]?"
    rf"\s*[=:|/]?\s*[(\[<]?{_MAIL}[)\]>]?",
    rf"(?:e-?mail|이메일|메일|기사 ?제보)\s*[:=]\s*{_MAIL}",
    r".{0,15}제보는 카카오톡.{0,60}",
    r"[▶☞◆■●※►].{0,40}"
    r"(?:바로 ?가기|기사 ?보기|구독하기|앱 ?다운|채널 ?추가|클릭|보러 ?가기)[!.]*",
    r"(?:입력|등록|수정|작성|송고|기사 ?입력|최종 ?수정|업데이트)(?: ?(?:일시?|시간|시각))?"
    rf"\s*:?\s*{_DAY}"
    r"(?:\s*(?:\(?[월화수목금토일]\)?|오전|오후))*(?:\s*\d{1,2}:\d{2}(?::\d{2})?)?",
    # Menus, alone or several in a line.
    rf"(?:{_ALONE})|(?:{_ANY})(?:{_NEXT}(?:{_ANY})){{1,15}}",
    # Cookies.
    r"(?:this|our|the) (?:web ?)?site uses cookies.{0,160}",
    r"we use cookies.{0,160}",
    r"by (?:continuing to (?:use|browse)|using) (?:this|our|the) (?:web ?)?site,? you "
    r"(?:agree|consent).{0,120}",
    r"(?:accept|reject|allow|manage) (?:all )?cookies?",
    r"(?:이|본|저희) ?(?:웹 ?)?사이트[는은에서]* ?쿠키를.{0,80}",
    r"쿠키 ?(?:설정|허용|동의|거부)(?:하기)?",
    r"(?:please )?enable javascript.{0,80}|이 페이지는 자바스크립트.{0,60}",
)
_MARKS = " \t*-·•▪|"
_LONGEST = 300  # characters; longer lines are somebody's text


@dataclass
class Boilerplate(Change):
    """Takes out lines that match a pattern as a whole.

    A text of one line is no page, and stays.

    Attributes:
      patterns: regular expressions (of `re`) instead of the shipped ones, which know Korean and
        English pages: rights, bylines with an address, menus, cookie notices.
      more: others beside them.
    """

    patterns: tuple[str, ...] = DEFAULT
    more: tuple[str, ...] = ()

    def check(self) -> None:
        for setting in ("patterns", "more"):
            for pattern in getattr(self, setting):
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise self.refuse(setting, f"{pattern!r} is no pattern: {error}") from None

    def change(self, text: str) -> str:
        if "\n" not in text:
            return text
        matches = _compiled(self.patterns + self.more).fullmatch
        lines = text.split("\n")
        kept = [line for line in lines if len(line) > _LONGEST or not matches(line.strip(_MARKS))]
        return text if len(kept) == len(lines) else "\n".join(kept)


@lru_cache
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)
