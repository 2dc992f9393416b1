"""Words that stand for each other when somebody asks: who looks for a `hobby` means what is told of as `painting`.

Each group is a word that questions use and its kin, the words that answers use; both lead to each other, kin do not
to their like. It covers what people tell of their lives and of their work on software, and what is no common word for
either is left out: each wrong kin brings in what nobody asked for.

The kinds are those that people are asked to name members of in studies of category norms (Battig and Montague 1969, Van
Overschelde and others 2004), with members that come to mind first. The formal words are such as a question uses
and for which talk has everyday ones.
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
_KINDS = """
    country spain france italy germany england britain ireland scotland portugal greece switzerland
    country netherlands sweden norway poland russia ukraine canada mexico brazil argentina peru colombia china
    country japan korea india thailand vietnam indonesia australia egypt morocco kenya israel america
    europe spain france italy germany england ireland portugal greece switzerland sweden norway
    asia china japan korea india thailand vietnam indonesia/asian china japan korea india thailand vietnam
    city boston chicago seattle miami houston dallas denver philadelphia detroit atlanta toronto vancouver
    city london paris rome berlin madrid barcelona amsterdam dublin lisbon tokyo bangkok sydney
    state california texas florida oregon colorado arizona nevada michigan ohio virginia carolina alaska
    state hawaii/continent europe asia africa america australia
    nationality american british french german italian spanish chinese indian
    landmark castle tower bridge statue temple cathedral monument
    building house church school tower office library hospital
    place beach park museum restaurant cafe shop city lake mountain/venue theater stadium hall arena club
    room kitchen bedroom bathroom office basement garage/yard garden lawn backyard patio
    island hawaii bali caribbean/river stream creek waterfall/landscape mountain valley desert canyon forest hill
    animal cow pig sheep goat lion tiger bear elephant monkey wolf fox deer rabbit snake turtle
    bird eagle owl robin parrot hawk duck chicken/fish salmon tuna trout shark goldfish
    insect bee butterfly ant spider/reptile snake lizard turtle
    breed labrador retriever shepherd poodle terrier bulldog beagle/flower tulip lily daisy sunflower orchid
    tree oak pine maple palm/fruit orange grape strawberry peach pear mango lemon cherry
    vegetable carrot broccoli tomato potato spinach pepper onion
    food pizza pasta bread cheese chicken salad soup sandwich sushi burger rice/meat beef chicken pork steak
    cuisine italian chinese mexican indian thai japanese/dish pasta curry soup stew salad lasagna
    dessert brownie pudding cheesecake/snack chips popcorn cookie candy/sweet candy chocolate sugar cake
    drink water milk smoothie cocktail whiskey vodka/beverage coffee tea juice soda wine beer
    alcohol beer wine whiskey/meal pizza pasta chicken salad soup/breakfast eggs pancakes toast cereal
    ingredient flour sugar butter garlic/color orange black white gray brown/shape circle square triangle
    material wood metal glass leather cotton/gem diamond ruby emerald gold silver/jewelry pendant watch
    instrument trumpet harp keyboard harmonica
    genre rock jazz pop rap metal fantasy mystery romance thriller horror comedy
    music jazz rock classical pop rap piano guitar/musician singer band guitarist pianist composer
    artist painter singer musician/singer vocalist/composer bach mozart beethoven/dance tango waltz
    theater play drama musical stage/comedy standup joke funny
    sport rugby cricket wrestling skiing skating surfing cycling running/athlete player runner swimmer
    exercise pilates weights pushups aerobics walk swim hike stretch/outdoor fish climb kayak surf ski bike
    game poker cards monopoly scrabble nintendo xbox playstation/toy doll lego puzzle teddy
    hobby photography knitting baking hiking fishing dancing singing collecting chess/craft knit sew
    activity cook bake bike climb fish garden yoga movie museum concert picnic/pastime knitting reading
    book fantasy biography poetry fiction/literature novel poem fiction
    movie comedy thriller horror drama documentary/show episode season netflix/superhero batman superman spiderman
    magazine article newspaper/article column essay blog/relative uncle aunt cousin nephew niece
    family mom dad grandmother grandfather/kid boy girl/adult man woman
    job nurse doctor teacher lawyer engineer accountant manager waiter cashier intern chef driver mechanic
    profession nurse doctor teacher lawyer engineer accountant programmer artist writer chef police
    occupation nurse doctor teacher lawyer engineer/career promotion interview hired boss
    industry fashion finance tech retail/department sales marketing finance
    major economics psychology engineering biology business/subject math history science english biology physics
    science physics chemistry biology astronomy/degree bachelor master phd
    language italian chinese japanese portuguese russian arabic python javascript java rust typescript golang
    disease cancer diabetes flu asthma/illness flu cold fever cancer infection
    symptom pain fever cough headache nausea/allergy allergic rash/condition asthma diabetes anxiety depression
    health cholesterol blood pressure heart weight/injury break knee ankle shoulder wrist
    body arm leg knee head hand foot shoulder/therapy therapist counselor/treatment therapy surgery medication
    medication antibiotic aspirin vitamin/emotion joy fear anger sadness love guilt
    feeling lonely proud nervous grateful hopeful ashamed
    personality caring shy thoughtful funny outgoing creative confident honest generous
    trait brave patient loyal caring honest/attribute honest brave patient loyal/value honesty respect loyalty
    belief faith religion/religion christian muslim jewish buddhist catholic bible/gender woman man transgender
    orientation gay lesbian bisexual/tattoo ink/memento souvenir keepsake/status single married divorced
    clothes pants skirt sweater coat hat socks boots suit/shoe boots sneakers sandals/accessory hat scarf belt bag
    furniture bed lamp shelf bookcase dresser/appliance fridge oven washer dishwasher microwave
    utensil knife fork spoon/tool screwdriver wrench/equipment gear camera helmet/weapon gun knife sword
    vehicle bus boat bike van/car toyota honda ford tesla bmw/boat ship sailing kayak canoe yacht
    transportation car plane bike/aircraft plane helicopter jet/brand nike adidas apple samsung sony
    company google amazon microsoft apple/device ipad iphone kindle watch camera/store walmart ikea costco grocery
    service netflix spotify subscription/app application spotify instagram
    platform youtube twitch instagram facebook twitter tiktok/social instagram facebook twitter
    event birthday graduation ceremony marathon race workshop exhibition/ceremony wedding graduation
    holiday christmas thanksgiving easter halloween/festival christmas thanksgiving
    disaster fire flood earthquake hurricane/weather wind cloud fog heat/crime theft robbery murder fraud
    accident collision injured/emergency ambulance fire/charity hunger homeless veterans/organization agency
    institution university bank hospital/stress pressure overwhelmed/relationship breakup boyfriend girlfriend
    partner fiancee/wedding honeymoon bride/sibling twin/pregnant baby expecting/parent adoption foster
    adopt agency foster/education masters phd training certificate/skill cooking coding programming painting
    class pottery cooking dance yoga/programming python javascript java rust typescript golang coding
    framework django flask react angular spring rails/database postgres mysql sqlite mongodb redis
    cloud aws azure gcp/os linux windows macos ubuntu/editor vim vscode emacs/browser chrome firefox safari
    test pytest unittest jest/server nginx apache/container docker kubernetes podman/deploy kubernetes docker helm
    error timeout segfault panic/bug regression/credential token secret key/version release tag
    storage disk bucket volume/network dns port proxy firewall/build compile make/pipeline ci workflow
"""
_FORMAL = """
    accompany together join/accomplish finish/acquire buy/address tackle handle face/adore love
    adversity hard struggle/advise suggest/aid help/ailment illness sick pain disease
    anticipate expect forward excited/apologize sorry/appreciate thank grateful/assist help/attain reach win
    attempt try/attire clothes dress outfit/author writer/collaborate together work/combat fight
    commence start begin/communicate talk chat/companion friend pet/complete finish/comprehend understand
    conceal hide/conclude end finish/conduct run hold/consider think/construct build/consult ask doctor
    consume eat drink/contribute give donate help/converse talk chat/cope deal handle/defeat beat win
    demonstrate show/depart leave/depict show painting picture/desire want wish/destroy break ruin/determine decide
    difficulty hard tough/discard throw/discontinue stop quit/dispute argue fight/dwell live home
    educate teach learn/eliminate cut remove/employ hire work job/encounter meet/endeavor try/enhance improve
    enroll sign join class/ensure sure/enthusiastic excited/establish start open/evaluate check/exhausted tired
    facilitate help/fatigue tired/fortunate lucky/frequently often always/gather meet together
    hinder stop block/host hold throw organize/illustrate show draw/implement build add/incorporate add include
    indicate show/individual person someone/initiate start/injure hurt break/inquire ask
    inspect look check/intend plan want/investigate look check/item thing stuff/lately recent week/locate find
    maintain keep/manufacture make/modify change/numerous lots/observe see watch notice
    obtain buy/occasion birthday party wedding/occur happen/opportunity chance/oppose against/option choice
    organize plan/participate part/partake join part/peaceful calm quiet/permit let allow/possess own
    postpone delay later/preferred favorite/prepare ready/prevent stop avoid/primary main/proceed go/procure buy
    prohibit ban/propose suggest ask/pursue follow try study dream/recover heal/recreational fun/reduce cut less
    regret sorry wish/relocate move/remain stay/renovate fix redo/repeatedly again/reply answer/request ask
    require need/rescue save/reside live home/respond answer/retain keep/reveal show/select pick choose
    significant big important/spouse husband wife/sufficient enough/supplement add extra/technique method tip
    terminate end fire/transform change/transmit send/unfortunate sad sorry/unexpected surprise/utilize use
    wealthy rich money/youngster kid/relaxing peaceful
"""


def groups() -> tuple[tuple[str, ...], ...]:
    """Every group: first the word that is asked with, then its kin."""
    listed = re.split(r"[/\n]", _GROUPS + _KINDS + _FORMAL)
    return tuple(tuple(group.split()) for group in listed if group.strip())
