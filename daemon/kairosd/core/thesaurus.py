"""Words that stand for each other when somebody asks: who looks for a `hobby` means what is told of as `painting`.

Each group is a word that questions use and its kin, the words that answers use; both lead to each other, kin do not
to their like. It covers what people tell of their lives and of their work on software, and what is no common word for
either is left out: each wrong kin brings in what nobody asked for.
"""

from __future__ import annotations

import re

_GROUPS = """
    activity hobby hike camp swim run dance paint read game sport/hobby pastime interest paint draw read garden cook
    sport basketball football soccer baseball tennis golf hockey volleyball swimming gymnastics boxing
    martial karate judo boxing kickboxing taekwondo/exercise workout gym fitness training running yoga jogging cardio
    fitness gym workout training marathon/game videogame console chess puzzle play/team club league
    instrument guitar piano violin drums flute cello saxophone clarinet ukulele/song album singer/dance ballet salsa
    music song band album concert playlist singing/concert show gig festival band/paint painter canvas artwork
    art painting drawing sculpture pottery museum gallery craft/draw sketch/exhibition exhibit museum gallery
    book novel reading author story series/write writer blog journal poem essay screenplay/movie film cinema/series tv
    photo picture pic image snapshot photograph camera/photography camera lens
    pet dog cat puppy kitten fish bird hamster turtle rabbit/dog pup puppy/cat kitten/animal dog cat horse bird wildlife
    family fam relative parent kid child husband wife son daughter brother sister cousin aunt uncle grandma grandpa
    family nephew niece/parent mother father mom dad/mother mom mum/father dad/grandmother grandma/grandfather grandpa
    kid child son daughter toddler/sibling brother sister/child son daughter baby/baby newborn pregnant birth
    partner spouse husband wife boyfriend girlfriend fiance/marry wedding bride groom engaged anniversary
    relationship partner date single marry divorce/friend buddy pal mate/colleague coworker teammate/name nickname
    job work career profession position occupation hire/career job profession/boss manager supervisor
    company firm employer startup business/salary pay wage income raise/money cash finance fund income
    cost price pay spend expensive/buy purchase order acquire shop/sell sale/gift present/give donate
    store shop mall market/collect collection/skill ability talent
    trip travel vacation journey holiday getaway tour roadtrip flight/visit travel trip tour/travel abroad
    country nation abroad/city town/state region/place location spot/live reside/move relocate/abroad overseas foreign
    house home apartment flat condo/hotel hostel resort/flight airport plane airline/neighbor neighborhood
    vehicle car truck motorcycle/car truck suv/bike bicycle cycling/transport bus train subway taxi
    school college university class/study learn course degree class exam/education school degree college study
    class lesson course workshop/degree diploma graduate major/teacher instructor professor coach tutor/student pupil
    test exam quiz/language spanish french german english/childhood kid younger/age old birthday/young childhood
    health medical illness sick disease doctor diagnosis/doctor physician hospital clinic dentist/therapy counseling
    injury hurt sprain fracture pain surgery/medicine medication pill drug/illness disease condition disorder
    weight diet pound/diet food eating nutrition vegan vegetarian/food meal dish recipe cook snack cuisine
    cook bake recipe kitchen/recipe ingredient/meal breakfast lunch dinner/dessert cake cookie pie chocolate pastry
    fruit apple banana berry/restaurant cafe diner bistro/drink coffee tea beer wine juice soda/sleep nap insomnia
    feel emotion mood/happy glad excited joy thrilled delighted/sad upset depressed grief/angry mad furious frustrated
    fear afraid scared phobia/worried anxious nervous stress/relax calm unwind destress rest/tired exhausted
    excited thrilled/proud accomplish/love enjoy/favorite love prefer/dislike hate/support encourage
    win victory champion prize/award prize medal trophy honor/competition contest tournament championship/lose defeat
    succeed success achieve accomplish/achievement accomplishment milestone award/goal aim dream aspiration target
    plan intend schedule upcoming/problem issue trouble difficulty challenge obstacle/challenge struggle hurdle
    fail failure setback/accident crash/help assist aid/advice tip suggestion recommend/suggest recommend advise
    motivate inspire encourage/idea concept/decide decision choice/choose select pick/opinion view
    begin start launch/end finish complete stop/quit resign leave/change alter adjust/fix repair mend solve/break damage
    make build create craft/show display exhibit/learn discover/important significant/find discover/die death dead loss
    join sign enroll member/attend go join participate/participate join attend/member club group/group club community
    event concert festival party meeting parade fair fundraiser conference wedding/party celebration birthday
    celebrate party anniversary/festival fair parade carnival/volunteer charity donate shelter community
    charity fundraiser donate nonprofit/organization charity group foundation/church faith god prayer
    religion church faith god spiritual/politics election campaign vote/military army veteran soldier
    nature outdoors forest mountain park/outdoors hike camp trail/beach ocean sea coast/lake river pond/hike trail trek
    mountain peak summit hill/plant flower garden tree/garden vegetable/weather rain storm snow sunny
    storm hurricane tornado flood/season summer winter spring autumn/color red blue green yellow purple pink
    computer laptop pc desktop/phone mobile smartphone/device gadget laptop phone tablet/website site online
    online internet/message text email/meeting call appointment/talk speak chat conversation/news announcement
    clothes shirt dress jacket shoe jeans outfit/jewelry necklace ring bracelet earring/tool hammer drill
    furniture sofa couch table chair desk/big large huge/small little tiny/fast quick speed/beautiful pretty gorgeous
    recent lately/often frequent regularly/duration long/remember souvenir
    error bug failure exception crash traceback/bug defect issue/deploy release ship rollout/delete remove erase drop
    config setting option/server host machine/database db sql/repo repository/dependency package library
    login auth password credential/docs documentation readme/slow latency performance/update upgrade/verify check test
    change modify edit/cancel abort stop/backup restore/customer client
"""


def groups() -> tuple[tuple[str, ...], ...]:
    """Every group: first the word that is asked with, then its kin."""
    return tuple(tuple(group.split()) for group in re.split(r"[/\n]", _GROUPS) if group.strip())
