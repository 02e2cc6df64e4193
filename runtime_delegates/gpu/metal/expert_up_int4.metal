// Written by build_shaders.py from shaders/expert_up.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, uint A>
inline void spvArrayCopyFromStackToStack1(thread T (&dst)[A], thread const T (&src)[A])
{
    for (uint i = 0; i < A; i++)
    {
        dst[i] = src[i];
    }
}

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Weights
{
    uint4 weights[1];
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant uint _505 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _508 = (THREADS * TOKENS);
constant uint _509 = (_508 * 2u);
constant uint _534 = (64u * TOKENS);
constant uint _569 = (64u * TOKENS);

struct Push
{
    uint first;
    uint tile_vectors;
    uint expert_vectors;
    uint first_expert;
    uint rows;
    uint cols;
    uint x_stride;
    uint y_stride;
    uint score_stride;
};

constant bool _628 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Scores
{
    float scores[1];
};

constant bool _770 = (TOKENS == 1u);
constant uint _843 = (TOKENS * 2u);
constant bool _875 = (TOKENS >= 4u);
constant bool _877 = (_875 && true);
constant int _878 = _877 ? 2 : 4;
constant uint _879 = (uint(_878) + 0u);
constant bool _935 = (TOKENS >= 4u);
constant bool _936 = (_935 && true);
constant int _937 = _936 ? 2 : 4;
constant uint _938 = (uint(_937) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1069 = (TOKENS >= 4u);
constant bool _1070 = (_1069 && true);
constant int _1071 = _1070 ? 2 : 4;
constant uint _1072 = (uint(_1071) + 0u);
constant uint _1073 = (_1072 * THREADS);

struct Y
{
    float y[1];
};

constant bool _1143 = (TOKENS > 1u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1149 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1149, 1u, 1u);

kernel void expert_up_int4(constant Push& p [[buffer(0)]], const device Weights& _202 [[buffer(1)]], const device X& _1009 [[buffer(2)]], device Y& _1125 [[buffer(3)]], const device Scores& _665 [[buffer(4)]], const device Step& _636 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_509];
    threadgroup float chunk_sums[_569];
    do
    {
        uint _626 = p.first_expert + gl_WorkGroupID.y;
        uint _1742;
        if (_628)
        {
            _1742 = 1u;
        }
        else
        {
            _1742 = _636.step_[0];
        }
        uint2 mask = uint2(0u);
        for (uint _1743 = 0u; _1743 < _1742; _1743 += TOKENS)
        {
            for (uint _1824 = 0u; _1824 < TOKENS; _1824++)
            {
                uint _668 = _1743 + _1824;
                if ((_668 < _1742) && (_665.scores[(_668 * p.score_stride) + _626] > 0.0))
                {
                    uint _690 = _668 / 32u;
                    mask[_690] |= (1u << (_668 % 32u));
                }
            }
        }
        uint _718 = (p.first + (gl_WorkGroupID.y * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
        uint _725 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _734 = uint(int(popcount(mask.x)) + int(popcount(mask.y)));
        if (_734 == 0u)
        {
            break;
        }
        uint _1142;
        uint token[8];
        uint x_at[8];
        float acc[16];
        uint4 raw[4][1];
        uint pair[4];
        for (uint _1744 = _734; _1744 != 0u; _1744 = _1142)
        {
            uint _761 = min(_1744, TOKENS);
            uint _1820;
            for (uint _1745 = 0u, _1821 = 0u; _1745 < TOKENS; _1821 = _1820, _1745++)
            {
                if (_770)
                {
                    mask.x = 0u;
                    _1820 = _1821;
                }
                else
                {
                    uint _1822;
                    if (mask.x != 0u)
                    {
                        uint _781 = mask.x;
                        uint _784 = mask.x;
                        mask.x &= (mask.x - 1u);
                        _1822 = uint(int(popcount((~_781) & (_784 - 1u))));
                    }
                    else
                    {
                        uint _1823;
                        if (mask.y != 0u)
                        {
                            uint _804 = mask.y;
                            uint _807 = mask.y;
                            mask.y &= (mask.y - 1u);
                            _1823 = uint(32 + int(popcount((~_804) & (_807 - 1u))));
                        }
                        else
                        {
                            _1823 = _1821;
                        }
                        _1822 = _1823;
                    }
                    _1820 = _1822;
                }
                token[_1745] = _1820;
                x_at[_1745] = _1820 * p.x_stride;
            }
            for (uint _1746 = 0u; _1746 < _843; )
            {
                acc[_1746] = 0.0;
                _1746++;
                continue;
            }
            uint _1168 = ((p.cols + 31u) / 32u) * 8u;
            uint _1747;
            _1747 = gl_LocalInvocationID.x;
            bool _865;
            for (;;)
            {
                _865 = _1747 < _1168;
                if (_865)
                {
                    bool _880 = 0u < _879;
                    bool _889;
                    if (_880)
                    {
                        _889 = _865;
                    }
                    else
                    {
                        _889 = _880;
                    }
                    if (_889)
                    {
                        uint4 _1732[1] = { _202.weights[_718 + _1747] };
                        spvArrayCopyFromStackToStack1(raw[0u], _1732);
                        pair[0u] = ((device uint*)&_202.weights[(_718 + _1168) + (_1747 >> uint(3))])[_1747 & 3u];
                    }
                    bool _1874 = 1u < _879;
                    bool _1880;
                    if (_1874)
                    {
                        _1880 = (_1747 + THREADS) < _1168;
                    }
                    else
                    {
                        _1880 = _1874;
                    }
                    if (_1880)
                    {
                        uint _1883 = _1747 + THREADS;
                        uint4 _1893[1] = { _202.weights[_718 + _1883] };
                        spvArrayCopyFromStackToStack1(raw[1u], _1893);
                        pair[1u] = ((device uint*)&_202.weights[(_718 + _1168) + (_1883 >> uint(3))])[_1883 & 3u];
                    }
                    bool _1904 = 2u < _879;
                    bool _1910;
                    if (_1904)
                    {
                        _1910 = (_1747 + (2u * THREADS)) < _1168;
                    }
                    else
                    {
                        _1910 = _1904;
                    }
                    if (_1910)
                    {
                        uint _1913 = _1747 + (2u * THREADS);
                        uint4 _1923[1] = { _202.weights[_718 + _1913] };
                        spvArrayCopyFromStackToStack1(raw[2u], _1923);
                        pair[2u] = ((device uint*)&_202.weights[(_718 + _1168) + (_1913 >> uint(3))])[_1913 & 3u];
                    }
                    bool _1934 = 3u < _879;
                    bool _1940;
                    if (_1934)
                    {
                        _1940 = (_1747 + (3u * THREADS)) < _1168;
                    }
                    else
                    {
                        _1940 = _1934;
                    }
                    if (_1940)
                    {
                        uint _1943 = _1747 + (3u * THREADS);
                        uint4 _1953[1] = { _202.weights[_718 + _1943] };
                        spvArrayCopyFromStackToStack1(raw[3u], _1953);
                        pair[3u] = ((device uint*)&_202.weights[(_718 + _1168) + (_1943 >> uint(3))])[_1943 & 3u];
                    }
                    for (uint _1774 = 0u; _1774 < 4u; _1774++)
                    {
                        uint _933 = _1747 + (_1774 * THREADS);
                        if ((_1774 >= _938) || (_933 >= _1168))
                        {
                            continue;
                        }
                        float _1268 = as_type<float>((raw[_1774][0].x & 15u) | 1258291200u) - 8388616.0;
                        float _1276 = as_type<float>(((raw[_1774][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _1284 = as_type<float>(((raw[_1774][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _1292 = as_type<float>(((raw[_1774][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _1224 = raw[_1774][0].x >> uint(4);
                        float _1326 = as_type<float>((_1224 & 15u) | 1258291200u) - 8388616.0;
                        float _1334 = as_type<float>(((_1224 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _1342 = as_type<float>(((_1224 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _1350 = as_type<float>(((_1224 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _1973 = as_type<float>((raw[_1774][0].y & 15u) | 1258291200u) - 8388616.0;
                        float _1978 = as_type<float>(((raw[_1774][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _1983 = as_type<float>(((raw[_1774][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _1988 = as_type<float>(((raw[_1774][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _1998 = raw[_1774][0].y >> uint(4);
                        float _2002 = as_type<float>((_1998 & 15u) | 1258291200u) - 8388616.0;
                        float _2007 = as_type<float>(((_1998 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2012 = as_type<float>(((_1998 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2017 = as_type<float>(((_1998 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _2040 = as_type<float>((raw[_1774][0].z & 15u) | 1258291200u) - 8388616.0;
                        float _2045 = as_type<float>(((raw[_1774][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2050 = as_type<float>(((raw[_1774][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2055 = as_type<float>(((raw[_1774][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _2065 = raw[_1774][0].z >> uint(4);
                        float _2069 = as_type<float>((_2065 & 15u) | 1258291200u) - 8388616.0;
                        float _2074 = as_type<float>(((_2065 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2079 = as_type<float>(((_2065 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2084 = as_type<float>(((_2065 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _2102 = as_type<float>((raw[_1774][0].w & 15u) | 1258291200u) - 8388616.0;
                        float _2107 = as_type<float>(((raw[_1774][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2112 = as_type<float>(((raw[_1774][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2117 = as_type<float>(((raw[_1774][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _2127 = raw[_1774][0].w >> uint(4);
                        float _2131 = as_type<float>((_2127 & 15u) | 1258291200u) - 8388616.0;
                        float _2136 = as_type<float>(((_2127 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2141 = as_type<float>(((_2127 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2146 = as_type<float>(((_2127 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _1355 = pair[_1774] & 65535u;
                        uint _1370 = _1355 & 32767u;
                        uint _1372 = _1370 << uint(13);
                        float _1387 = (_1370 < 1024u) ? (as_type<float>(947912704u | _1372) - 6.103515625e-05) : as_type<float>(_1372 + ((_1370 < 31744u) ? 939524096u : 1879048192u));
                        float _1779;
                        if ((_1355 & 32768u) != 0u)
                        {
                            _1779 = -_1387;
                        }
                        else
                        {
                            _1779 = _1387;
                        }
                        uint _1359 = pair[_1774] >> uint(16);
                        uint _1406 = _1359 & 32767u;
                        uint _1408 = _1406 << uint(13);
                        float _1423 = (_1406 < 1024u) ? (as_type<float>(947912704u | _1408) - 6.103515625e-05) : as_type<float>(_1408 + ((_1406 < 31744u) ? 939524096u : 1879048192u));
                        float _1780;
                        if ((_1359 & 32768u) != 0u)
                        {
                            _1780 = -_1423;
                        }
                        else
                        {
                            _1780 = _1423;
                        }
                        for (uint _1781 = 0u; _1781 < TOKENS; _1781 += 4u)
                        {
                            if ((_1781 != 0u) && (_1781 >= _1744))
                            {
                                continue;
                            }
                            for (uint _1788 = _1781; _1788 < (_1781 + 4u); _1788++)
                            {
                                if (_1788 >= TOKENS)
                                {
                                    continue;
                                }
                                uint _1443 = ((_933 >> uint(3)) * 8u) + (((_933 >> uint(2)) & 1u) * 2u);
                                uint _1018 = x_at[_1788] + _1443;
                                uint _2172 = x_at[_1788] + (_1443 + 1u);
                                uint _2196 = x_at[_1788] + (_1443 + 4u);
                                uint _2220 = x_at[_1788] + (_1443 + 5u);
                                uint _1049 = _1788 * 2u;
                                acc[_1049] = fma(_1779, fma(_2017, _1009.x[_2220].w, fma(_2012, _1009.x[_2220].z, fma(_2007, _1009.x[_2220].y, fma(_2002, _1009.x[_2220].x, fma(_1350, _1009.x[_2196].w, fma(_1342, _1009.x[_2196].z, fma(_1334, _1009.x[_2196].y, fma(_1326, _1009.x[_2196].x, fma(_1988, _1009.x[_2172].w, fma(_1983, _1009.x[_2172].z, fma(_1978, _1009.x[_2172].y, fma(_1973, _1009.x[_2172].x, fma(_1292, _1009.x[_1018].w, fma(_1284, _1009.x[_1018].z, fma(_1276, _1009.x[_1018].y, spvFMul(_1268, _1009.x[_1018].x)))))))))))))))), acc[_1049]);
                                uint _2443 = _1049 + 1u;
                                acc[_2443] = fma(_1780, fma(_2146, _1009.x[_2220].w, fma(_2141, _1009.x[_2220].z, fma(_2136, _1009.x[_2220].y, fma(_2131, _1009.x[_2220].x, fma(_2084, _1009.x[_2196].w, fma(_2079, _1009.x[_2196].z, fma(_2074, _1009.x[_2196].y, fma(_2069, _1009.x[_2196].x, fma(_2117, _1009.x[_2172].w, fma(_2112, _1009.x[_2172].z, fma(_2107, _1009.x[_2172].y, fma(_2102, _1009.x[_2172].x, fma(_2055, _1009.x[_1018].w, fma(_2050, _1009.x[_1018].z, fma(_2045, _1009.x[_1018].y, _2040 * _1009.x[_1018].x))))))))))))))), acc[_2443]);
                            }
                        }
                    }
                    _1747 += _1073;
                    continue;
                }
                else
                {
                    break;
                }
            }
            float param[16];
            spvArrayCopyFromStackToStack1(param, acc);
            for (uint _1748 = 0u; _1748 < _505; )
            {
                partial[(_1748 * THREADS) + gl_LocalInvocationID.x] = param[_1748];
                _1748++;
                continue;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint _1749 = gl_LocalInvocationID.x; _1749 < _534; _1749 += THREADS)
            {
                uint _1593 = (((_1749 / 32u) * THREADS) + ((_1749 / 8u) % 4u)) + (4u * (_1749 % 8u));
                float _1772;
                _1772 = partial[_1593];
                for (uint _1770 = 32u; _1770 < THREADS; )
                {
                    _1772 = spvFAdd(_1772, partial[_1593 + _1770]);
                    _1770 += 32u;
                    continue;
                }
                chunk_sums[_1749] = _1772;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            uint _1755;
            _1755 = 0u;
            uint _1828;
            for (uint _1750 = 0u; _1750 < TOKENS; _1755 = _1828, _1750++)
            {
                if ((gl_LocalInvocationID.x / 8u) == _1750)
                {
                    _1828 = token[_1750];
                }
                else
                {
                    _1828 = _1755;
                }
            }
            bool _1102 = gl_LocalInvocationID.x < (8u * _761);
            bool _1109;
            if (_1102)
            {
                _1109 = _725 < p.rows;
            }
            else
            {
                _1109 = _1102;
            }
            if (_1109)
            {
                uint _1116 = gl_LocalInvocationID.x % 8u;
                uint _1634 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1116 % 2u)) * 4u) + (_1116 / 2u)) * 8u;
                float _1121 = spvFMul((((((spvFAdd(chunk_sums[_1634], chunk_sums[_1634 + 1u]) + chunk_sums[_1634 + 2u]) + chunk_sums[_1634 + 3u]) + chunk_sums[_1634 + 4u]) + chunk_sums[_1634 + 5u]) + chunk_sums[_1634 + 6u]) + chunk_sums[_1634 + 7u], 1.0);
                float _1662 = -abs(_1121);
                float _1756;
                do
                {
                    if (_1662 < (-87.0))
                    {
                        _1756 = 0.0;
                        break;
                    }
                    float _1691 = floor(fma(_1662, 1.44269502162933349609375, 0.5));
                    float _1697 = fma(_1691, 0.00021219444170128554105758666992188, fma(_1691, -0.693359375, _1662));
                    _1756 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _1697, 0.00139819993637502193450927734375), _1697, 0.008333452045917510986328125), _1697, 0.0416657961905002593994140625), _1697, 0.1666666567325592041015625), _1697, 0.5), _1697), _1697, _1697), 1.0) * as_type<float>(uint(int(_1691) + 127) << uint(23));
                    break;
                } while(false);
                float _1757;
                if (_1121 < 0.0)
                {
                    _1757 = _1121 * _1756;
                }
                else
                {
                    _1757 = _1121;
                }
                _1125.y[(((_626 * 64u) + _1755) * p.y_stride) + _725] = _1757 / (1.0 + _1756);
            }
            _1142 = _1744 - _761;
            if (_1143 && (_1142 != 0u))
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
        }
        break;
    } while(false);
}

